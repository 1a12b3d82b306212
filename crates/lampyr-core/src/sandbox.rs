//! A sandbox: one machine of one's own, from restore to removal.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use lampyr_engine::{CopyTo, EngineError, Machine};
use lampyr_net::{Access, Network};
use lampyr_proto::{Event, Request, Resumed};
use lampyr_store::{Lock, Part, Store, at};
use lampyr_types::SandboxId;
use tokio::net::UnixStream;

use crate::channel::{Channel, Frozen, Stream};
use crate::copy::PAGES;
use crate::network::Begun;
use crate::private::Place;
use crate::template::{DEVICES, Ground, Hold, Template, connection, create};
use crate::{Error, Host, Trace, random};

/// How long a restored guest may take to answer. It is there in a tenth of a
/// second; the rest is for a host that is very busy.
const RESUME_WAIT: Duration = Duration::from_secs(30);
/// How long a machine whose channel broke may take to be seen ending.
const END_WAIT: Duration = Duration::from_secs(2);
/// How far a guest's clock may be behind when it has just been set, and how
/// often that is tried on a host that is busy.
const CLOCK_ERROR: Duration = Duration::from_millis(25);
const CLOCK_TRIES: usize = 5;

/// The files of the disk's layers in a sandbox's directory.
const LAYER: &str = "layer";

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
    /// What it stands on, where it is ours to copy.
    pub(crate) ground: Option<Ground>,
    /// Whether others wake at the same time.
    pub(crate) crowd: bool,
}

/// What [`Sandbox::copy`] left in a directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saved {
    /// How long the machine stood still.
    pub(crate) pause: Duration,
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
    ground: Option<Ground>,
    /// How many layers its disk had beneath the first that this machine wrote.
    beneath: usize,
}

/// The sandbox's directory and the lock that says somebody lives there.
pub(crate) struct Home {
    path: PathBuf,
    lock: Option<Lock>,
    /// Keeps what its machine stands on where it is.
    _hold: Option<Arc<Hold>>,
    /// How many disk layers were made in it, and which is written to.
    layers: usize,
    top: usize,
    /// Whether the directory stays.
    left: bool,
}

impl Home {
    fn make(host: &Host, id: SandboxId, hold: Arc<Hold>) -> Result<Self, Error> {
        let path = host.store.dir(Part::Sandboxes)?.join(id.to_string());
        std::fs::create_dir(&path).map_err(at(&path))?;
        let mut home = Self { path, lock: None, _hold: Some(hold), layers: 0, top: 0, left: false };
        home.lock = Some(Lock::wait(&home.path.join("lock"))?);
        Ok(home)
    }

    /// The directory of a sandbox that somebody else owns and removes.
    pub(crate) fn of_another(path: PathBuf) -> Self {
        Self { path, lock: None, _hold: None, layers: 0, top: 0, left: true }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a new layer of its disk; with its number.
    fn layer(&mut self, host: &Host, size: u64) -> Result<(usize, File), Error> {
        let number = self.layers;
        let path = self.layer_path(number);
        self.layers += 1;
        host.engine.make_layer(&path, size).map_err(at(&path))?;
        Ok((number, File::options().read(true).write(true).open(&path).map_err(at(&path))?))
    }

    /// A layer is the one that is written to from now on; returns where the one
    /// is that was before.
    fn put_on(&mut self, number: usize) -> PathBuf {
        let before = std::mem::replace(&mut self.top, number);
        self.layer_path(before)
    }

    /// Forgets a layer that nobody writes to.
    fn drop_layer(&mut self, number: usize) {
        let _ = std::fs::remove_file(self.layer_path(number));
    }

    fn layer_path(&self, number: usize) -> PathBuf {
        self.path.join(format!("{LAYER}{number}.qcow2"))
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
        let mut home = Home::make(host, id, template.hold.clone())?;
        let (_, disk) = home.layer(host, template.shape.disk.as_bytes())?;
        let restore = template.restore(disk)?;
        trace.done("layer");
        let mut machine = host.engine.restore(&template.shape.spec, restore).await?;
        trace.done("restored");
        let line = connection(&mut *machine)?;
        let ground = Some(template.ground());
        Ok(Self { id, machine, line, patience: RESUME_WAIT, home, ground, crowd: false })
    }

    /// Makes it somebody, with the network that was begun for it where its machine
    /// has a card. What is asked before [`Sandbox::awake`] is done after it has heard
    /// who it is.
    pub(crate) async fn rouse(self, store: &Store, begun: Option<Begun>) -> Result<Sandbox, Error> {
        let Self { id, mut machine, line, patience, home, ground, crowd } = self;
        let (place, network) = join(store, begun, &mut *machine, id, &home).await?;
        let (channel, waking) = (Channel::greet(line), None);
        let beneath = ground.as_ref().map_or(0, |ground| ground.layers.len());
        let mut sandbox = Sandbox {
            id,
            machine,
            channel,
            waking,
            patience,
            network,
            place,
            home,
            ground,
            beneath,
        };
        sandbox.wake(crowd).await?;
        Ok(sandbox)
    }
}

impl Sandbox {
    /// Restores a machine from `template` and tells it who it is now. In a
    /// `crowd` others are restored at the same time.
    pub(crate) async fn launch(
        host: &Host,
        template: &Template,
        access: Option<&Access>,
        crowd: bool,
    ) -> Result<Self, Error> {
        let begun = Begun::new(host, access).await?;
        let resting = Resting::restore(host, template, &Trace::new()).await?;
        Resting { crowd, ..resting }.rouse(&host.store, begun).await
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
        let Self { id, machine, channel, patience, home, ground, .. } = self;
        channel.close().await;
        Ok(Resting { id, machine, line, patience, home, ground, crowd: false })
    }

    /// Copies the machine into `dir` while it goes on: the pages that it has
    /// changed since it was restored, and the state of its devices. Its disk
    /// gets a new layer, and what it was until now is all in
    /// [`Self::ground`].
    pub(crate) async fn copy(&mut self, host: &Host, dir: &Path) -> Result<Saved, Error> {
        let size = self.ground.as_ref().ok_or(Error::NotOurs)?.shape.disk.as_bytes();
        let (pages, devices) = (create(&dir.join(PAGES))?, create(&dir.join(DEVICES))?);
        let (number, layer) = self.home.layer(host, size)?;
        let channel = self.channel.clone();
        let begun = Instant::now();
        let frozen = self.freeze().await.inspect_err(|_| self.home.drop_layer(number))?;
        let copied = self.machine.copy(CopyTo { pages, devices, layer }).await;
        // Whatever comes of the rest, its disk is what the machine says.
        match (&copied, &mut self.ground) {
            (Ok(copied), Some(ground)) if copied.layered => {
                ground.layers.push(self.home.put_on(number));
            }
            _ => self.home.drop_layer(number),
        }
        self.while_alive(async { Ok(channel.thaw(Some(frozen), clock_ns()).await?) }).await?;
        copied?;
        Ok(Saved { pause: begun.elapsed() })
    }

    /// What runs in the guest stands still while it is copied: a copy must not
    /// run before it knows who it is.
    async fn freeze(&mut self) -> Result<Frozen, Error> {
        let channel = self.channel.clone();
        let frozen = self.while_alive(async { Ok(channel.freeze().await?) }).await;
        if frozen.is_err() {
            // It may have heard so much of it that it stands still.
            let _ = channel.thaw(None, clock_ns()).await;
        }
        frozen
    }

    /// Makes it what it was when it was copied into `dir`, its disk the layers
    /// of then; where that fails it is what it was before, but for its place on
    /// a private network where that could not be taken again. Returns the machine
    /// that it had. Whoever holds its channel or its network must ask for the
    /// new ones; it knows nothing of itself before [`Self::wake_again`].
    pub(crate) async fn go_back(
        &mut self,
        host: &Host,
        dir: &Path,
        layers: &[PathBuf],
        access: Option<&Access>,
    ) -> Result<Box<dyn Machine>, Error> {
        let Some(mut ground) = self.ground.clone() else { return Err(Error::NotOurs) };
        ground.layers = layers.to_vec();
        let (number, top) = self.home.layer(host, ground.shape.disk.as_bytes())?;
        let restored = async {
            let begun = Begun::new(host, access).await?;
            let restore = ground.restore(dir, top)?;
            let mut machine = host.engine.restore(&ground.shape.spec, restore).await?;
            let channel = Channel::greet(connection(&mut *machine)?);
            // Its name on a private network is free only now.
            drop(self.place.take());
            let joined = join(&host.store, begun, &mut *machine, self.id, &self.home).await?;
            Ok((machine, channel, joined))
        };
        let restored: Result<_, Error> = restored.await;
        let restored = restored.inspect_err(|_| self.home.drop_layer(number));
        let (machine, channel, joined) = restored?;
        (self.place, self.network) = joined;
        let before = std::mem::replace(&mut self.machine, machine);
        self.home.put_on(number);
        self.channel = channel;
        self.beneath = ground.layers.len();
        self.ground = Some(ground);
        Ok(before)
    }

    /// Tells it who it is now, and waits until it knows.
    pub(crate) async fn wake_again(&mut self) -> Result<(), Error> {
        self.wake(false).await?;
        self.awake().await?;
        self.set_clock().await
    }

    /// Makes one layer of two that nobody needs to tell apart: it is `ends`
    /// that says how many layers each point that is remembered has. Returns
    /// the number of the layer that is no more, and what was in it is in the one
    /// beneath.
    pub(crate) async fn merge(&mut self, ends: &[usize]) -> Result<Option<usize>, Error> {
        let Some(ground) = &mut self.ground else { return Ok(None) };
        let mut pairs = self.beneath + 1..ground.layers.len();
        // What is somebody else's as well must stay what it is.
        let ours = |path: &Path| path.metadata().is_ok_and(|meta| meta.nlink() == 1);
        let goes = |above: &usize| !ends.contains(above) && ours(&ground.layers[above - 1]);
        let Some(above) = pairs.find(goes) else { return Ok(None) };
        self.machine.merge(above - 1 - self.beneath).await?;
        let merged = ground.layers.remove(above);
        // What stays goes with the sandbox's directory.
        let _ = std::fs::remove_file(&merged);
        Ok(Some(above))
    }

    /// Removes the layers of its disk that neither it nor `others` stand on.
    pub(crate) fn forget_layers(&self, others: &[&[PathBuf]]) {
        let ground = self.ground.iter().flat_map(|ground| &ground.layers);
        let needed: Vec<_> = others.iter().copied().flatten().chain(ground).collect();
        for number in (0..self.home.layers).filter(|number| *number != self.home.top) {
            let path = self.home.layer_path(number);
            if !needed.contains(&&path) {
                // It may be gone already; and `clean` finds it if not.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// What it stands on, where it is ours to copy.
    pub(crate) fn ground(&self) -> Option<&Ground> {
        self.ground.as_ref()
    }

    /// Tells the guest who it is now; no command runs before it knows.
    async fn wake(&mut self, crowd: bool) -> Result<(), Error> {
        let channel = self.channel.clone();
        let network = self.network.as_deref();
        let card = network.map(Network::card);
        let authority = network.and_then(Network::authority).map(str::to_owned);
        let resumed = Request::Resumed(Resumed { card, authority, crowd, ..identity(self.id) });
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

    /// Tells the guest what time it is until it hears that soon enough: what it
    /// was told when it woke up may have been old by the time it was heard.
    pub(crate) async fn set_clock(&mut self) -> Result<(), Error> {
        let channel = self.channel.clone();
        for _ in 0..CLOCK_TRIES {
            let begun = Instant::now();
            let told = async { Ok(channel.ask(&Request::Clock(clock_ns())).await?) };
            let told = tokio::time::timeout(self.patience, self.while_alive(told)).await;
            let seconds = self.patience.as_secs();
            told.map_err(|_| EngineError::Slow { what: "set its clock", seconds })??;
            if begun.elapsed() < CLOCK_ERROR {
                break;
            }
        }
        Ok(())
    }

    /// The conversation with its agent.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Its network, where it has one.
    pub(crate) fn network(&self) -> Option<Arc<Network>> {
        self.network.clone()
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
        (0..self.home.layers).for_each(|number| {
            let _ = std::fs::remove_file(self.home.layer_path(number));
        });
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

/// Gives a machine its network, and takes its place on a private one.
async fn join(
    store: &Store,
    begun: Option<Begun>,
    machine: &mut dyn Machine,
    id: SandboxId,
    home: &Home,
) -> Result<(Option<Place>, Option<Arc<Network>>), Error> {
    let private = begun.as_ref().and_then(|begun| begun.private.as_ref());
    let taken = private.map(|private| Place::take(store, private, id, &home.path));
    let (place, wire) = taken.transpose()?.unzip();
    let Some(begun) = begun else { return Ok((place, None)) };
    let network = begun.join(machine, wire).await?;
    Ok((place, Some(Arc::new(network))))
}

/// What the guest calls itself.
pub(crate) fn hostname(id: SandboxId) -> String {
    let hex: String = id.as_bytes().iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("lampyr-{hex}")
}

/// The wall clock, in nanoseconds since 1970.
fn clock_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// Who a guest is, without a network.
pub(crate) fn identity(id: SandboxId) -> Resumed {
    let hex: String = id.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    Resumed {
        entropy: random::bytes::<64>().to_vec(),
        clock_ns: clock_ns(),
        hostname: hostname(id),
        machine_id: hex,
        card: None,
        authority: None,
        crowd: false,
    }
}
