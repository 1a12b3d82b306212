//! A QEMU that runs.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use lampyr_engine::{Copied, CopyTo, Ended, EngineError, Machine, Pages, Promise};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::io;
use crate::launch::{capabilities, migration_modes, take_back};
use crate::layers::Layer;
use crate::log::Log;
use crate::qmp::Qmp;

/// How long the monitor may take to answer, and a saved machine to end.
const MONITOR_WAIT: Duration = Duration::from_secs(30);
/// How long a killed QEMU's last words may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The largest device state that is believed, in bytes.
pub(crate) const MAX_DEVICES: u64 = 16 << 20;

/// A running QEMU. Dropping it kills the process; `stop` also waits for it.
#[derive(Debug)]
pub(crate) struct QemuMachine {
    child: Child,
    qmp: Qmp,
    channel: Option<UnixStream>,
    card: Option<UnixStream>,
    memory: Option<File>,
    /// What a restored machine has mapped privately.
    pub(crate) base: Option<File>,
    /// What its devices began with.
    pub(crate) began: Vec<u8>,
    /// The layers of its disk since it was started; it writes to the last.
    pub(crate) layers: Vec<Layer>,
    /// How often it had written to its disk when the last layer was made.
    pub(crate) written: u64,
    /// How many copies were tried.
    pub(crate) copies: usize,
    log: Log,
    said: Vec<JoinHandle<()>>,
}

impl QemuMachine {
    pub(crate) fn new(
        child: Child,
        qmp: Qmp,
        channel: UnixStream,
        log: Log,
        said: Vec<JoinHandle<()>>,
    ) -> Self {
        Self {
            child,
            qmp,
            channel: Some(channel),
            card: None,
            memory: None,
            base: None,
            began: Vec::new(),
            layers: Vec::new(),
            written: 0,
            copies: 0,
            log,
            said,
        }
    }

    /// Remembers the file that holds the guest's memory.
    pub(crate) fn keep_memory(&mut self, memory: Option<File>) {
        self.memory = memory;
    }

    /// Remembers our end of the network card.
    pub(crate) fn keep_card(&mut self, card: Option<UnixStream>) {
        self.card = card;
    }

    /// Runs monitor commands, in time.
    pub(crate) async fn monitor(&mut self, commands: &[Value]) -> Result<(), EngineError> {
        let done = tokio::time::timeout(MONITOR_WAIT, self.qmp.run(commands)).await;
        match done.map_err(|_| self.silent()).and_then(|done| done) {
            Ok(()) => Ok(()),
            Err(e) => Err(self.explain(e).await),
        }
    }

    /// A monitor that does not answer in time may answer later, and out of
    /// turn: its machine is ended.
    fn silent(&mut self) -> EngineError {
        self.kill();
        EngineError::Slow { what: "answer", seconds: MONITOR_WAIT.as_secs() }
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child.start_kill();
    }

    /// Asks the monitor something, in time.
    pub(crate) async fn ask(&mut self, question: &Value) -> Result<Value, EngineError> {
        let answered = tokio::time::timeout(MONITOR_WAIT, self.qmp.ask(question)).await;
        answered.map_err(|_| self.silent())?
    }

    /// Waits until a layer of the disk was put into another, in time.
    pub(crate) async fn merged(&mut self, wait: Duration) -> Result<(), EngineError> {
        let Ok(merged) = tokio::time::timeout(wait, self.qmp.merged()).await else {
            // It would end later, and nobody would know what its layers are.
            self.kill();
            return Err(EngineError::Slow { what: "merge its disk", seconds: wait.as_secs() });
        };
        merged
    }

    /// Runs the commands that load a saved state, and lets the machine go on.
    pub(crate) async fn load(&mut self, commands: &[Value]) -> Result<(), EngineError> {
        self.qmp.run(commands).await?;
        self.qmp.migrated().await?;
        self.qmp.run(&[json!({"execute": "cont"})]).await
    }

    /// Puts pages over its memory. That comes first: devices look into it when
    /// their state is loaded. Whoever answers has mapped it.
    pub(crate) async fn load_pages(&mut self, pages: Pages) -> Result<(), EngineError> {
        self.qmp.run(&[capabilities()]).await?;
        let memory = self.guest_memory(true)?;
        let loading = tokio::task::spawn_blocking(move || memory.load(&pages));
        let loaded = loading.await.map_err(|e| io("write the VM's memory")(e.into()))?;
        loaded.map_err(io("write the VM's memory"))
    }

    /// Hands a descriptor over, in time.
    pub(crate) async fn give(
        &mut self,
        command: &Value,
        fd: BorrowedFd<'_>,
    ) -> Result<(), EngineError> {
        let given = tokio::time::timeout(MONITOR_WAIT, self.qmp.give(command, fd)).await;
        given.map_err(|_| self.silent())?
    }

    /// The process.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the process gave up by itself, so that no signal ended it.
    pub(crate) fn gave_up(&mut self) -> bool {
        self.child.try_wait().ok().flatten().is_some_and(|status| status.code().is_some())
    }

    /// Where the monitor broke because the process ended, that is the story.
    pub(crate) async fn explain(&mut self, error: EngineError) -> EngineError {
        match tokio::time::timeout(LAST_WORDS, self.wait()).await {
            Ok(ended) => EngineError::Ended(ended),
            Err(_) => error,
        }
    }

    async fn wait(&mut self) -> Ended {
        let (how, signal) = match self.child.wait().await {
            Ok(status) => (format!("QEMU ended with {status}"), status.signal()),
            Err(e) => (format!("QEMU is gone: {e}"), None),
        };
        // Each is forgotten once it was waited for: this may be given up and
        // called again.
        while let Some(said) = self.said.last_mut() {
            let _ = tokio::time::timeout(LAST_WORDS, said).await;
            self.said.pop();
        }
        // The guest's memory is a file's: no room for a page is SIGBUS.
        Ended { how, log: self.log.text(), starved: signal == Some(Signal::BUS.as_raw()) }
    }

    async fn save_devices(&mut self) -> Result<Vec<u8>, EngineError> {
        let (sink, mut source) = pipe::pipe().map_err(io("make a pipe"))?;
        self.qmp.run(&[json!({"execute": "stop"}), migration_modes()]).await?;
        let sink = sink.into_blocking_fd().map_err(io("make a pipe"))?;
        let take = json!({"execute": "getfd", "arguments": {"fdname": "state"}});
        self.qmp.give(&take, sink.as_fd()).await?;
        drop(sink);
        let save = json!({"execute": "migrate", "arguments": {"uri": "fd:state"}});
        let qmp = &mut self.qmp;
        let saved = async {
            qmp.run(&[save]).await?;
            qmp.migrated().await
        };
        let mut devices = Vec::new();
        let mut bounded = (&mut source).take(MAX_DEVICES);
        let (saved, read) = tokio::join!(saved, bounded.read_to_end(&mut devices));
        saved?;
        read.map_err(io("read the devices' state"))?;
        self.qmp.run(&[json!({"execute": "quit"})]).await?;
        self.child.wait().await.map_err(io("wait for QEMU"))?;
        Ok(devices)
    }
}

impl Machine for QemuMachine {
    fn channel(&mut self) -> Option<UnixStream> {
        self.channel.take()
    }

    fn card(&mut self) -> Option<UnixStream> {
        self.card.take()
    }

    fn save(mut self: Box<Self>) -> Promise<'static, Result<Vec<u8>, EngineError>> {
        Box::pin(async move {
            let saved = tokio::time::timeout(MONITOR_WAIT, self.save_devices()).await;
            let slow = EngineError::Slow { what: "save itself", seconds: MONITOR_WAIT.as_secs() };
            let devices = match saved.map_err(|_| slow).and_then(|saved| saved) {
                Ok(devices) => devices,
                Err(e) => return Err(self.explain(e).await),
            };
            if let Some(memory) = &self.memory {
                take_back(memory).map_err(io("keep the guest's memory"))?;
            }
            Ok(devices)
        })
    }

    fn copy(&mut self, to: CopyTo) -> Promise<'_, Result<Copied, EngineError>> {
        Box::pin(self.copy_to(to))
    }

    fn merge(&mut self, number: usize) -> Promise<'_, Result<(), EngineError>> {
        Box::pin(self.merge_into(number))
    }

    fn ended(&mut self) -> Promise<'_, Ended> {
        Box::pin(self.wait())
    }

    fn stop(mut self: Box<Self>) -> Promise<'static, ()> {
        Box::pin(async move {
            // It may have ended already; either way it is reaped here.
            let _ = self.child.kill().await;
        })
    }

    fn pid(&self) -> Option<u32> {
        self.id()
    }
}
