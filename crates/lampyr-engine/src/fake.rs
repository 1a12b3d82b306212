//! An engine without machines, for tests: a "machine" is the real agent's
//! program, run as an ordinary process of this host and talked to over a
//! socket pair. Everything above the seam runs as it does with a VM, in
//! milliseconds; nothing is isolated, and nothing is saved but a mark.
//!
//! Faults are made to order: a restore that is refused, a machine that dies as
//! soon as it is restored, and guests that are not the agent at all ([`Peer`]).

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::{
    BootImage, Copied, CopyTo, Ended, Engine, EngineError, Machine, MachineImage, MachineSpec,
    PagesWriter, Promise, Restore,
};

/// The "device state" of every machine that was saved.
const DEVICES: &[u8] = b"lampyr fake devices 1\n";
/// The length of the host's greeting, which a scripted guest echoes.
const GREETING: usize = 32;

/// Who answers in the machines that are restored.
#[derive(Clone, Default)]
pub enum Peer {
    /// The agent, as in every honest machine.
    #[default]
    Agent,
    /// Somebody who echoes the greeting, says these bytes and only listens
    /// from then on.
    Script(Vec<u8>),
    /// Somebody made up: this future is the guest, and its end is the end of
    /// the machine.
    Play(Play),
}

/// Plays a guest on its end of the channel.
pub type Play = Arc<dyn Fn(UnixStream) -> Promise<'static, ()> + Send + Sync>;

/// See the module.
pub struct FakeEngine {
    agent: PathBuf,
    faults: Mutex<Faults>,
    boots: AtomicUsize,
    restores: AtomicUsize,
    base: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct Faults {
    refuse: Option<EngineError>,
    die: bool,
    peer: Peer,
}

impl FakeEngine {
    /// An engine whose machines run the agent's program at `agent`.
    pub fn new(agent: PathBuf) -> Self {
        let (boots, restores) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { agent, faults: Mutex::default(), boots, restores, base: Mutex::default() }
    }

    /// The next restore fails with this.
    pub fn fail_restore_once(&self, error: EngineError) {
        self.faults(|f| f.refuse = Some(error));
    }

    /// The next machine that is restored dies at once.
    pub fn die_after_restore_once(&self) {
        self.faults(|f| f.die = true);
    }

    /// Who answers in machines that are restored from now on.
    pub fn set_peer(&self, peer: Peer) {
        self.faults(|f| f.peer = peer);
    }

    /// How many machines were booted so far.
    pub fn boots(&self) -> usize {
        self.boots.load(Ordering::SeqCst)
    }

    /// How many restores were asked for so far.
    pub fn restores(&self) -> usize {
        self.restores.load(Ordering::SeqCst)
    }

    /// How the lowest disk begins of the machine that was restored last.
    pub fn base(&self) -> String {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&base).into_owned()
    }

    fn remember_base(&self, disks: &[File]) -> Result<(), EngineError> {
        let mut begin = [0; 16];
        let read = disks.first().map_or(Ok(0), |disk| disk.read_at(&mut begin, 0));
        let read = read.map_err(io("read the disk"))?;
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = begin[..read].to_vec();
        Ok(())
    }

    fn faults<T>(&self, act: impl FnOnce(&mut Faults) -> T) -> T {
        act(&mut self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs the agent with its end of the channel as descriptor 0, so that no
    /// other process that is born meanwhile can inherit it.
    fn run_agent(&self) -> Result<FakeMachine, EngineError> {
        let (ours, theirs) = pair()?;
        let mut command = Command::new(&self.agent);
        command.args(["--fd", "0"]).stdin(Stdio::from(OwnedFd::from(theirs)));
        command.stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
        let child = command.spawn().map_err(|e| EngineError::Unavailable {
            what: format!("cannot run the agent {}: {e}", self.agent.display()),
            hint: "build it with `cargo xtask agent`".into(),
        })?;
        Ok(FakeMachine { guest: Guest::Agent(child), channel: Some(stream(ours)?), memory: 0 })
    }

    fn start(&self, peer: Peer) -> Result<FakeMachine, EngineError> {
        let play = match peer {
            Peer::Agent => return self.run_agent(),
            Peer::Script(bytes) => script(bytes),
            Peer::Play(play) => play,
        };
        let (ours, theirs) = pair()?;
        let task = tokio::spawn(play(stream(theirs)?));
        Ok(FakeMachine { guest: Guest::Actor(task), channel: Some(stream(ours)?), memory: 0 })
    }

    fn resume(&self, image: &MachineImage) -> Result<FakeMachine, EngineError> {
        self.restores.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.faults(|f| f.refuse.take()) {
            return Err(error);
        }
        if image.devices != DEVICES {
            return Err(EngineError::BadImage("these are no devices of a fake machine".into()));
        }
        let (peer, die) = self.faults(|f| (f.peer.clone(), std::mem::take(&mut f.die)));
        let mut machine = self.start(peer)?;
        machine.memory = image.memory.metadata().map_err(io("look at the memory"))?.len();
        if die {
            machine.guest.kill();
        }
        Ok(machine)
    }
}

impl Engine for FakeEngine {
    fn fingerprint(&self) -> String {
        "fake engine 1".into()
    }

    fn boot<'a>(
        &'a self,
        _spec: &'a MachineSpec,
        _image: BootImage,
    ) -> Promise<'a, Result<Box<dyn Machine>, EngineError>> {
        self.boots.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move { Ok(Box::new(self.run_agent()?) as Box<dyn Machine>) })
    }

    fn restore<'a>(
        &'a self,
        _spec: &'a MachineSpec,
        image: Restore,
    ) -> Promise<'a, Result<Box<dyn Machine>, EngineError>> {
        Box::pin(async move {
            self.remember_base(&image.disks)?;
            Ok(Box::new(self.resume(&image.image)?) as Box<dyn Machine>)
        })
    }

    fn make_layer(&self, path: &Path, _size: u64) -> std::io::Result<()> {
        File::options().write(true).create_new(true).open(path).map(drop)
    }

    fn check_layer(&self, _layer: &File, _size: u64) -> std::io::Result<()> {
        Ok(())
    }
}

/// Both ends of a channel, not yet known to any runtime.
fn pair() -> Result<(std::os::unix::net::UnixStream, std::os::unix::net::UnixStream), EngineError> {
    std::os::unix::net::UnixStream::pair().map_err(io("make a channel"))
}

fn stream(end: std::os::unix::net::UnixStream) -> Result<UnixStream, EngineError> {
    end.set_nonblocking(true).map_err(io("make a channel"))?;
    UnixStream::from_std(end).map_err(io("make a channel"))
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> EngineError {
    move |source| EngineError::Io { what, source }
}

fn script(bytes: Vec<u8>) -> Play {
    Arc::new(move |mut channel| {
        let bytes = bytes.clone();
        Box::pin(async move {
            let mut greeting = [0; GREETING];
            let echoed = async {
                channel.read_exact(&mut greeting).await?;
                channel.write_all(&greeting).await?;
                channel.write_all(&bytes).await
            };
            let _ = echoed.await;
            let mut ignored = [0; 4096];
            while channel.read(&mut ignored).await.is_ok_and(|n| n > 0) {}
            // The host hung up; a machine does not end because of that.
            std::future::pending::<()>().await;
        })
    })
}

/// A machine that is none.
struct FakeMachine {
    guest: Guest,
    channel: Option<UnixStream>,
    /// The size of the memory that it does not have, in bytes.
    memory: u64,
}

enum Guest {
    Agent(Child),
    Actor(JoinHandle<()>),
}

impl Guest {
    /// Ends it with all that it runs, without waiting for it.
    fn kill(&mut self) {
        match self {
            Self::Agent(child) => {
                // What it runs would otherwise outlive it on this host.
                if let Some(pid) = child.id() {
                    signal(pid, Signal::STOP);
                    kill_below(pid);
                }
                let _ = child.start_kill();
            }
            Self::Actor(task) => task.abort(),
        }
    }

    async fn wait(&mut self) -> String {
        match self {
            Self::Agent(child) => match child.wait().await {
                Ok(status) => format!("the agent ended with {status}"),
                Err(e) => format!("the agent is gone: {e}"),
            },
            Self::Actor(task) => {
                // A task's end can be taken once only.
                if !task.is_finished() {
                    let _ = task.await;
                }
                "the scripted guest ended".into()
            }
        }
    }
}

/// Kills every process below `pid`. What loses its parent meanwhile becomes a
/// child of the agent, and so is found on the next look.
fn kill_below(pid: u32) {
    for _ in 0..3 {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let Ok(child) = child.parse() else { continue };
            kill_below(child);
            signal(child, Signal::KILL);
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone.
        let _ = kill_process(pid, signal);
    }
}

impl Machine for FakeMachine {
    fn channel(&mut self) -> Option<UnixStream> {
        self.channel.take()
    }

    fn save(mut self: Box<Self>) -> Promise<'static, Result<Vec<u8>, EngineError>> {
        Box::pin(async move {
            self.guest.kill();
            self.guest.wait().await;
            Ok(DEVICES.to_vec())
        })
    }

    /// A copy has nothing of the original but the mark: it is a machine that was
    /// just restored.
    fn copy(&mut self, to: CopyTo) -> Promise<'_, Result<Copied, EngineError>> {
        let copied = PagesWriter::new(to.pages, self.memory).finish();
        let copied = copied.and_then(|()| (&to.devices).write_all(DEVICES));
        let copied =
            copied.map(|()| Copied { pause: Duration::ZERO, layered: true }).map_err(io("copy"));
        Box::pin(std::future::ready(copied))
    }

    /// There is nothing in a layer.
    fn merge(&mut self, _number: usize) -> Promise<'_, Result<(), EngineError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn ended(&mut self) -> Promise<'_, Ended> {
        Box::pin(async {
            Ended { how: self.guest.wait().await, log: String::new(), starved: false }
        })
    }

    fn stop(mut self: Box<Self>) -> Promise<'static, ()> {
        Box::pin(async move {
            self.guest.kill();
            self.guest.wait().await;
        })
    }

    fn pid(&self) -> Option<u32> {
        match &self.guest {
            Guest::Agent(child) => child.id(),
            Guest::Actor(_) => None,
        }
    }
}

impl Drop for FakeMachine {
    fn drop(&mut self) {
        self.guest.kill();
    }
}
