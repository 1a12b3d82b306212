//! The owner of a session: one process that holds the machine, the lock and
//! the socket, from the start to the removal.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lampyr_net::{Mark, Network, Policy};
use lampyr_oci::Config;
use lampyr_proto::{Control, Event, Exec, Exited, Failure, Job, Status};
use lampyr_types::SandboxId;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::channel::{Answer, Channel, accept};
use crate::forward::{Forwarding, Forwards};
use crate::mount::Mounts;
use crate::sandbox::Sandbox;
use crate::template::{Shape, Template};
use crate::{Error, Host, SessionRequest, fork, memory, network, wish};

use super::answer::{answer, changes, no_card, stopped, undone};
use super::clock::{self, WallClock};
use super::job::Jobs;
use super::keep::{Keep, Order};
use super::life::{Happening, Life, Phase, Why};
use super::record::{SessionRecord, bury, leave_word};
use super::socket;

/// How long those that wait for a last word may take to hear it.
const FAREWELL: Duration = Duration::from_secs(2);
/// More orders than this wait elsewhere.
const MAX_ORDERS: usize = 4;

/// What everybody who serves a request shares.
pub(super) struct Session {
    /// What changes when the machine is taken back to what it was.
    wires: Mutex<Wires>,
    env: Vec<(String, String)>,
    workdir: Option<String>,
    /// What its image wants.
    config: Config,
    born: Instant,
    life: Mutex<Life>,
    changed: Notify,
    /// Whether what runs is to end.
    ending: watch::Sender<bool>,
    /// What became of the session; whoever listens is still to be told.
    fate: watch::Sender<Option<Fate>>,
    pub(super) jobs: Jobs,
    /// Whether what it is is remembered before each command.
    remembers: bool,
    pub(super) clock: WallClock,
    /// What is asked of whoever has the machine.
    orders: mpsc::Sender<Order>,
}

/// The ways to a session's machine.
#[derive(Clone)]
struct Wires {
    channel: Channel,
    network: Option<Arc<Network>>,
    /// Its process.
    machine: Option<u32>,
}

impl Wires {
    fn of(sandbox: &Sandbox) -> Self {
        let (channel, network) = (sandbox.channel(), sandbox.network());
        Self { channel, network, machine: sandbox.pid() }
    }
}

/// What became of a session.
#[derive(Debug, Clone)]
enum Fate {
    /// It was ended in order, and nothing of it is left.
    Removed,
    /// Its machine ended by itself.
    Crashed(Failure),
}

/// A request that is being served. Dropping it says that it was answered.
pub(super) struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.live(Happening::Answered);
    }
}

/// Counts what goes over a session's network while a command runs in it.
pub(super) struct Meter(Option<(Mark, Arc<Network>)>);

impl Meter {
    /// Adds what was counted to how the command ended.
    pub(super) async fn read(self, exited: &mut Exited) {
        if let Some((mark, network)) = self.0 {
            exited.net = Some(Box::new(network::since(&network, mark).await));
        }
    }
}

/// Starts a session and serves it until it is over; `ready` hears how the
/// start went, and says whether anybody still wants it. `orphaned` comes when
/// the session's [`crate::Leash`] is gone.
pub async fn own_session(
    host: &Host,
    request: &SessionRequest,
    orphaned: impl Future<Output = ()>,
    ready: impl FnOnce(Result<SandboxId, Error>) -> bool,
) {
    match Box::pin(start(host, request)).await {
        Ok(Started { sandbox, listener, forwards, session, record, orders }) => {
            if !ready(Ok(record.sid)) {
                session.live(Happening::Stop(Duration::ZERO));
            }
            let busy = session.clone();
            let leads = session.clone();
            let forwarding = forwards.serve(move || leads.channel(), move || busy.busy());
            let keep = Keep::new(host, sandbox, request);
            let served = serve(host, keep, orders, listener, forwarding, &session);
            let orphaned = async {
                orphaned.await;
                let kept = fork::is_kept(&host.store, &request.origin);
                if kept { Happening::Detached } else { Happening::Orphaned }
            };
            hear_of(orphaned, &session, served).await;
        }
        Err(e) => drop(ready(Err(e))),
    }
}

/// Serves, and tells the session once when its leash is gone.
async fn hear_of(
    unleashed: impl Future<Output = Happening>,
    session: &Session,
    served: impl Future,
) {
    tokio::pin!(served);
    tokio::select! {
        _ = &mut served => return,
        what = unleashed => session.live(what),
    }
    served.await;
}

/// All that a session that has started consists of.
struct Started {
    sandbox: Sandbox,
    listener: UnixListener,
    forwards: Forwards,
    session: Arc<Session>,
    record: SessionRecord,
    orders: mpsc::Receiver<Order>,
}

async fn start(host: &Host, request: &SessionRequest) -> Result<Started, Error> {
    let forwards = Forwards::bind(&request.forwards).await?;
    let mounts = Mounts::open(&host.store, &request.mounts)?;
    let shape = Shape { spec: request.spec(), disk: request.disk() };
    let template = Template::get(host, &request.origin, shape).await?;
    let access = request.net.as_ref();
    let mut sandbox = Sandbox::launch(host, &template, access, request.crowd).await?;
    sandbox.awake().await?;
    sandbox.set_clock().await?;
    let channel = sandbox.channel();
    sandbox.while_alive(mounts.attach(&channel)).await?;
    let dir = sandbox.dir().to_owned();
    let at = |source| Error::Path { path: dir.clone(), source };
    let jobs = dir.join("jobs");
    std::fs::create_dir(&jobs).map_err(at)?;
    let listener = socket::listen(&dir).map_err(at)?;
    let (image, spec) = (&template.image.name, template.shape.spec);
    let record = SessionRecord::new(sandbox.id(), request, image, spec);
    record.publish(&host.store, &dir)?;
    let (orders, received) = mpsc::channel(MAX_ORDERS);
    let config = template.image.config.clone();
    let session = Arc::new(Session::new(&sandbox, request, config, Jobs::new(jobs), orders));
    Ok(Started { sandbox, listener, forwards, session, record, orders: received })
}

/// Serves until the session is over, and removes it.
async fn serve(
    host: &Host,
    mut keep: Keep<'_>,
    orders: mpsc::Receiver<Order>,
    listener: UnixListener,
    forwarding: Forwarding,
    session: &Arc<Session>,
) {
    let why = session.serve(&mut keep, orders, &listener).await;
    let sandbox = keep.sandbox;
    drop(listener);
    forwarding.close().await;
    if why == Why::Crashed {
        // What is left tells `session list` that it died; `clean` removes it.
        sandbox.leave();
    } else {
        let _ = bury(&host.store, sandbox.dir());
        sandbox.end().await;
        session.fate.send_replace(Some(Fate::Removed));
    }
    let _ = tokio::time::timeout(FAREWELL, session.fate.closed()).await;
}

impl Session {
    fn new(
        sandbox: &Sandbox,
        request: &SessionRequest,
        config: Config,
        jobs: Jobs,
        orders: mpsc::Sender<Order>,
    ) -> Self {
        let born = Instant::now();
        let mut env = request.env.clone();
        wish::add(&mut env, network::variables(request.net.as_ref()));
        let ttl = request.ttl_ms.map(Duration::from_millis);
        Self {
            wires: Mutex::new(Wires::of(sandbox)),
            env,
            workdir: request.workdir.clone(),
            config,
            born,
            life: Mutex::new(Life::new(born, ttl, request.attached)),
            changed: Notify::new(),
            ending: watch::Sender::new(false),
            fate: watch::Sender::new(None),
            jobs,
            remembers: request.checkpoints > 0,
            clock: WallClock::told(),
            orders,
        }
    }

    fn wires(&self) -> Wires {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The machine is another one now.
    pub(super) fn renew(&self, sandbox: &Sandbox) {
        *self.wires.lock().unwrap_or_else(PoisonError::into_inner) = Wires::of(sandbox);
    }

    pub(super) fn channel(&self) -> Channel {
        self.wires().channel
    }

    /// What its machine may reach.
    pub(super) fn policy(&self) -> Option<Policy> {
        self.wires().network.map(|network| Policy::clone(&network.policy()))
    }

    /// A process in this session has its environment and working directory,
    /// too, and what its image wants.
    pub(super) fn fill_in(&self, mut exec: Exec) -> Exec {
        wish::add(&mut exec.env, self.env.iter().cloned());
        exec.workdir = exec.workdir.or_else(|| self.workdir.clone());
        wish::fill_in(exec, &self.config)
    }

    /// What asks something in it to end.
    pub(super) fn stop_signal(&self) -> i32 {
        wish::stop_signal(&self.config)
    }

    /// Begins to count what goes over the network, where a command of the user's
    /// begins.
    pub(super) fn meter(&self, exec: &Exec) -> Meter {
        let is_command = matches!(exec.job, Job::Shell(_) | Job::Argv(_));
        let network = self.wires().network.filter(|_| is_command);
        Meter(network.map(|network| (network.mark(), network)))
    }

    /// Tells when what runs is to end.
    pub(super) fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }

    /// What somebody says to a job, and the image's stop signal when the session is to end.
    pub(super) fn stopping(&self, mut from: mpsc::Receiver<Control>) -> mpsc::Receiver<Control> {
        let (to, controls) = mpsc::channel(16);
        let mut ending = self.ending();
        let stop = self.stop_signal();
        tokio::spawn(async move {
            loop {
                let control = tokio::select! {
                    Some(control) = from.recv() => control,
                    () = comes(&mut ending) => Control::Signal(stop),
                    () = to.closed() => return,
                };
                let last = *ending.borrow();
                if to.send(control).await.is_err() || last {
                    return;
                }
            }
        });
        controls
    }

    /// Counts a request until it is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.live(Happening::Began);
        Busy(self.clone())
    }

    pub(super) fn live(&self, what: Happening) {
        let mut life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        life.live(what, Instant::now());
        self.ending.send_if_modified(|ending| {
            let now = !matches!(life.phase(), Phase::Serving);
            std::mem::replace(ending, now) != now
        });
        self.changed.notify_one();
    }

    fn phase(&self) -> (Phase, Option<Instant>) {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        (life.phase(), life.wakes())
    }

    async fn serve(
        self: &Arc<Self>,
        keep: &mut Keep<'_>,
        mut orders: mpsc::Receiver<Order>,
        listener: &UnixListener,
    ) -> Why {
        loop {
            let wakes = match self.phase() {
                (Phase::Over(why), _) => return why,
                (_, wakes) => wakes,
            };
            tokio::select! {
                accepted = listener.accept() => self.accepted(accepted.map(|(c, _)| c)).await,
                Some(order) = orders.recv() => keep.obey(order, self).await,
                crash = keep.sandbox.crashed() => {
                    self.crashed(&keep.sandbox, crash.to_failure());
                }
                () = self.changed.notified() => {}
                () = until(wakes) => self.live(Happening::Tick),
                () = tokio::time::sleep(clock::EVERY) => self.keep_time(),
            }
        }
    }

    /// Whoever comes too late to be told reads of it.
    pub(super) fn crashed(&self, sandbox: &Sandbox, crash: Failure) {
        let _ = leave_word(sandbox.dir(), &crash);
        self.fate.send_replace(Some(Fate::Crashed(crash)));
        self.live(Happening::MachineEnded);
    }

    /// Nothing waits for the guest to set its clock.
    fn keep_time(self: &Arc<Self>) {
        let session = self.clone();
        tokio::spawn(async move { session.clock.keep(&session.channel()).await });
    }

    async fn accepted(self: &Arc<Self>, connection: std::io::Result<UnixStream>) {
        match connection {
            Ok(connection) if socket::is_ours(&connection) => {
                let session = self.clone();
                tokio::spawn(accept(connection, move |served| {
                    tokio::spawn(answer(session.clone(), served));
                }));
            }
            Ok(_stranger) => {}
            // Out of descriptors: some come back when a client goes.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }

    /// Is to be told what became of it, and is waited for.
    pub(super) fn listen(&self) -> impl Sized + use<> {
        self.fate.subscribe()
    }

    /// Waits for what became of the session, as a failure of what ran in it.
    pub(super) async fn fate(&self) -> Failure {
        if !self.channel().is_over() {
            return undone();
        }
        let mut fate = self.fate.subscribe();
        let known = tokio::time::timeout(FAREWELL, fate.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(fate)) => match &*fate {
                Some(Fate::Crashed(failure)) => failure.clone(),
                _ => stopped(),
            },
            _ => Error::from(self.channel().verdict()).to_failure(),
        }
    }

    /// Tells a client what became of the session under its command.
    pub(super) async fn tell_fate(&self, answer: &Answer) {
        let _ = answer.say(&Event::Failure(self.fate().await)).await;
    }

    pub(super) fn status(&self) -> Status {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            uptime_ms: u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX),
            // The one who asks is not one of them.
            active_execs: life.requests().saturating_sub(1),
            memory_bytes: self.wires().machine.and_then(memory::of_process),
        }
    }

    /// Puts other rules in force.
    pub(super) async fn restrict(&self, rules: &[String]) -> Event {
        let Some(network) = self.wires().network else { return Event::Failure(no_card()) };
        match Policy::of(rules.iter().map(String::as_str)) {
            Ok(policy) => {
                let replaced = network.replace(policy).await;
                replaced.map_or_else(
                    |e| Event::Failure(Error::NetworkEnded(e).to_failure()),
                    |()| Event::Done,
                )
            }
            Err(e) => Event::Failed(e.to_string()),
        }
    }

    /// Gives an order to whoever has the machine, and waits for the answer.
    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, Failure> {
        let (answer, done) = oneshot::channel();
        // Where nobody takes orders any more, nobody answers either.
        let _ = self.orders.send(order(answer)).await;
        match done.await {
            Ok(done) => Ok(done),
            Err(_) => Err(self.fate().await),
        }
    }

    /// Copies the machine into a directory of whoever asks.
    pub(super) async fn copy(&self, dir: PathBuf, with_secrets: bool) -> Result<Event, Failure> {
        let copied = self.order(|answer| Order::Copy(dir, with_secrets, answer)).await?;
        copied.map(|()| Event::Done).map_err(|e| e.to_failure())
    }

    /// Remembers what the machine is, where that was asked for and `exec` may
    /// change it; the number of the point.
    pub(super) async fn remember(&self, exec: &Exec) -> Result<Option<u64>, Failure> {
        let Some(command) = changes(exec).filter(|_| self.remembers) else { return Ok(None) };
        let remembered = self.order(|answer| Order::Remember(command, answer)).await?;
        remembered.map(Some).map_err(|e| e.to_failure())
    }

    pub(super) async fn log(&self) -> Result<Event, Failure> {
        Ok(Event::Points(self.order(Order::Log).await?))
    }

    pub(super) async fn undo(&self, to: Option<u64>) -> Result<Event, Failure> {
        // A job belongs to the machine of before or to that of after, and so does its key.
        let _turn = self.jobs.turn().await;
        let undone = self.order(|answer| Order::Undo(to, answer)).await?;
        match undone {
            Ok(point) => Ok(Event::Points(vec![point])),
            Err(Error::NoPoint(_)) => Ok(Event::Points(Vec::new())),
            Err(e) => Err(e.to_failure()),
        }
    }

    pub(super) async fn suggest(&self) -> Event {
        let Some(network) = self.wires().network else { return Event::Failure(no_card()) };
        match network::suggestion(&network).await {
            Ok(suggestion) => Event::Rules(suggestion.rules, suggestion.left_out),
            Err(e) => Event::Failure(Error::NetworkEnded(e).to_failure()),
        }
    }

    /// Ends the session for a client, and says so when nothing of it is left.
    pub(super) async fn stop(self: &Arc<Self>, grace: Duration, answer: &Answer) {
        let mut fate = self.fate.subscribe();
        self.live(Happening::Stop(grace));
        let _ = fate.wait_for(Option::is_some).await;
        let _ = answer.say(&Event::Done).await;
    }
}

/// Waits until what runs is to end.
pub(super) async fn comes(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Waits until then; for ever where there is no such moment.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
