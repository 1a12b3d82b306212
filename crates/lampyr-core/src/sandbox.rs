//! A sandbox: one machine of one's own, from restore to removal.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lampyr_engine::{EngineError, Machine};
use lampyr_net::{Access, Mark, Network};
use lampyr_proto::{Event, NetUse, Request, Resumed};
use lampyr_store::{Lock, Part, Store, at};
use lampyr_types::SandboxId;
use tokio::net::UnixStream;

use crate::channel::{Channel, Stream};
use crate::private::Place;
use crate::template::{Template, connection};
use crate::{Error, Host, Trace, network, random};

/// How long a restored guest may take to answer. It is there in a tenth of a
/// second; the rest is for a host that is very busy.
const RESUME_WAIT: Duration = Duration::from_secs(30);
/// How long a machine whose channel broke may take to be seen ending.
const END_WAIT: Duration = Duration::from_secs(2);

const DISK: &str = "disk.qcow2";

/// A machine that nobody is yet: just restored, or put to rest again. It runs
/// nothing before [`Self::rouse`]. Dropping it ends the machine and removes its
/// directory.
pub(crate) struct Resting {
    pub(crate) id: SandboxId,
    pub(crate) machine: Box<dyn Machine>,
    /// The connection to its agent, on which nobody speaks.
    pub(crate) line: UnixStream,
    /// How long it may take to answer.
    pub(crate) patience: Duration,
    pub(crate) home: Home,
}

/// A running sandbox. Dropping it ends the machine and removes its directory.
pub(crate) struct Sandbox {
    id: SandboxId,
    machine: Box<dyn Machine>,
    channel: Channel,
    /// What says that the guest knows who it is, until it was heard.
    waking: Option<Stream>,
    patience: Duration,
    network: Option<Arc<Network>>,
    /// Its place on a private network, where it has one.
    place: Option<Place>,
    home: Home,
}

/// The sandbox's directory and the lock that says somebody lives there.
pub(crate) struct Home {
    path: PathBuf,
    lock: Option<Lock>,
    /// Keeps the image where it is.
    _image: Option<Arc<Lock>>,
    /// Whether the directory stays.
    left: bool,
}

impl Home {
    fn make(host: &Host, id: SandboxId, image: Arc<Lock>) -> Result<Self, Error> {
        let path = host.store.dir(Part::Sandboxes)?.join(id.to_string());
        std::fs::create_dir(&path).map_err(at(&path))?;
        let mut home = Self { path, lock: None, _image: Some(image), left: false };
        home.lock = Some(Lock::wait(&home.path.join("lock"))?);
        Ok(home)
    }

    /// The directory of a sandbox that somebody else owns and removes.
    pub(crate) fn of_another(path: PathBuf) -> Self {
        Self { path, lock: None, _image: None, left: true }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn disk(&self, host: &Host, size: u64) -> Result<File, Error> {
        let path = self.path.join(DISK);
        host.engine.make_layer(&path, size).map_err(at(&path))?;
        Ok(File::options().read(true).write(true).open(&path).map_err(at(&path))?)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        // What cannot be removed now, `clean` removes: the lock goes with us.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Resting {
    /// Restores a machine from `template`.
    pub(crate) async fn restore(
        host: &Host,
        template: &Template,
        trace: &Trace,
    ) -> Result<Self, Error> {
        let id = SandboxId::random();
        let home = Home::make(host, id, template.hold.clone())?;
        let disk = home.disk(host, template.shape.disk.as_bytes())?;
        let restore = template.restore(disk)?;
        trace.done("layer");
        let mut machine = host.engine.restore(&template.shape.spec, restore).await?;
        trace.done("restored");
        let line = connection(&mut *machine)?;
        Ok(Self { id, machine, line, patience: RESUME_WAIT, home })
    }

    /// Makes it somebody, with `access` to a network where its machine has a
    /// card. What is asked before [`Sandbox::awake`] is done after it has heard
    /// who it is.
    pub(crate) async fn rouse(
        self,
        store: &Store,
        access: Option<&Access>,
    ) -> Result<Sandbox, Error> {
        let Self { id, mut machine, line, patience, home } = self;
        let private = access.and_then(|access| access.private.as_ref());
        let taken = private.map(|private| Place::take(store, private, id, &home.path));
        let (place, wire) = taken.transpose()?.unzip();
        let start = |access| network::start(&mut *machine, access, wire);
        let network = access.map(start).transpose()?.map(Arc::new);
        let (channel, waking) = (Channel::greet(line), None);
        let mut sandbox = Sandbox { id, machine, channel, waking, patience, network, place, home };
        sandbox.wake(id).await?;
        Ok(sandbox)
    }
}

impl Sandbox {
    /// Restores a machine from `template` and tells it who it is now.
    pub(crate) async fn launch(
        host: &Host,
        template: &Template,
        access: Option<&Access>,
        trace: &Trace,
    ) -> Result<Self, Error> {
        Resting::restore(host, template, trace).await?.rouse(&host.store, access).await
    }

    /// Puts the machine to rest: it forgets who it was, and what the next
    /// command needs is made ready. `line` is a second end of its connection.
    pub(crate) async fn rest(mut self, line: UnixStream) -> Result<Resting, Error> {
        let channel = self.channel.clone();
        let asked = async { Ok(channel.ask(&Request::Quiesce).await?) };
        match self.while_alive(asked).await? {
            Event::Done => {}
            other => return Err(Error::Agent(format!("the agent answered {other:?}"))),
        }
        drop(channel);
        let Self { id, machine, channel, patience, home, .. } = self;
        channel.close().await;
        Ok(Resting { id, machine, line, patience, home })
    }

    /// Tells the guest who it is now; no command runs before it knows.
    async fn wake(&mut self, id: SandboxId) -> Result<(), Error> {
        let channel = self.channel.clone();
        let network = self.network.as_deref();
        let card = network.map(Network::card);
        let authority = network.and_then(Network::authority).map(str::to_owned);
        let resumed = Request::Resumed(Resumed { card, authority, ..identity(id) });
        let told = async { Ok(channel.open(&resumed).await?) };
        self.waking = Some(self.while_alive(told).await?);
        Ok(())
    }

    /// Waits until the guest knows who it is.
    pub(crate) async fn awake(&mut self) -> Result<(), Error> {
        let Some(waking) = self.waking.take() else { return Ok(()) };
        let channel = self.channel.clone();
        let answer = async { Ok(channel.answer(waking).await?) };
        match tokio::time::timeout(self.patience, self.while_alive(answer)).await {
            Ok(Ok(Event::Done)) => Ok(()),
            Ok(Ok(other)) => Err(Error::Agent(format!("the agent answered {other:?}"))),
            Ok(Err(e)) => Err(e),
            Err(_) => {
                Err(EngineError::Slow { what: "resume", seconds: self.patience.as_secs() }.into())
            }
        }
    }

    /// The conversation with its agent.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Its network, where it has one.
    pub(crate) fn network(&self) -> Option<Arc<Network>> {
        self.network.clone()
    }

    /// All that went over its network so far.
    pub(crate) fn net_use(&self) -> Option<Box<NetUse>> {
        self.network.as_deref().map(|network| Box::new(network::used(network, &Mark::default())))
    }

    /// Who it is.
    pub(crate) fn id(&self) -> SandboxId {
        self.id
    }

    /// Its directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.home.path
    }

    /// Waits until the machine has ended by itself.
    pub(crate) async fn crashed(&mut self) -> Error {
        Error::Crashed(self.machine.ended().await)
    }

    /// Lets go of a machine that has ended, and leaves word of it: all but the
    /// disk stays, for `clean` to remove.
    pub(crate) fn leave(mut self) {
        self.home.left = true;
        drop(self.place.take());
        let _ = std::fs::remove_file(self.home.path.join(DISK));
    }

    /// The process that is the machine.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.machine.pid()
    }

    /// Does something with the machine for as long as it lives.
    pub(crate) async fn while_alive<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            done = work => match done {
                // A channel breaks when its machine ends: that is the story.
                Err(e @ Error::Agent(_)) => Err(self.story(e).await),
                done => done,
            },
            ended = self.machine.ended() => Err(Error::Crashed(ended)),
        }
    }

    async fn story(&mut self, error: Error) -> Error {
        if !self.channel.is_over() {
            return error;
        }
        match tokio::time::timeout(END_WAIT, self.machine.ended()).await {
            Ok(ended) => Error::Crashed(ended),
            Err(_) => error,
        }
    }

    /// Ends the machine and removes everything of it.
    pub(crate) async fn end(self) {
        self.machine.stop().await;
    }
}

/// What the guest calls itself.
pub(crate) fn hostname(id: SandboxId) -> String {
    let hex: String = id.as_bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("lampyr-{hex}")
}

fn identity(id: SandboxId) -> Resumed {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let hex: String = id.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    Resumed {
        entropy: random::bytes::<64>().to_vec(),
        clock_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        hostname: hostname(id),
        machine_id: hex,
        card: None,
        authority: None,
    }
}
