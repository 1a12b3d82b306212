//! A network's handle: what its owner has of the process that it is.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lampyr_jail::Jail;
use lampyr_proto::Card;

use crate::access::Access;
use crate::card;
use crate::control::{Answer, Joining, MAX_ANSWER, Order, give, hear, say};
use crate::keeper::Keeper;
use crate::ledger::{Denied, Mark, Traffic};
use crate::peer::Wire;
use crate::policy::Policy;

/// How long a network may take to begin, or to answer. It takes a millisecond;
/// the rest is for a host that is very busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most descriptors that it may hold: a stream has one, and a datagram.
const MAX_FILES: u64 = 4096;
/// What tells who verifies a server where the host's authorities are.
const AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The program that becomes a network: it calls [`crate::be_network`] with its
/// standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// What it is told, so that it knows what to become.
    pub arguments: Vec<OsString>,
}

/// A network's process. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network that makes ready and has no card yet.
#[derive(Debug)]
pub struct Beginning {
    program: Program,
    policy: Policy,
    process: Process,
    control: UnixStream,
}

impl Beginning {
    /// Starts a network's process and tells it what its guest may reach. The
    /// thread that does so must outlive the network: on Linux the process ends
    /// with it.
    pub fn new(program: &Program, access: &Access) -> io::Result<Self> {
        let (mut control, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments);
        Jail { max_files: MAX_FILES, ..Jail::default() }.confine(&mut command);
        command.envs(AUTHORITIES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process(command.spawn()?);
        control.set_write_timeout(Some(PATIENCE))?;
        say(&mut control, &Order::Begin(Box::new(access.clone()))).map_err(|e| ended(&e))?;
        let policy = access.policy.clone();
        Ok(Self { program: program.clone(), policy, process, control })
    }

    /// Gives it the guest's card on `line`, framed as QEMU does it; with `wire`
    /// the guest is on a private network.
    pub fn join(self, line: UnixStream, wire: Option<Wire>) -> io::Result<Network> {
        let card = wire.as_ref().map_or_else(card::random, |wire| card::of(&wire.own));
        let Self { program, policy, process, mut control } = self;
        let (authority, servers) = join(&mut control, &line, card, false, wire.as_ref())?;
        // They are the network's now, and close with it.
        drop(wire);
        Ok(Network {
            card,
            authority,
            policy: Mutex::new(Arc::new(policy)),
            control: Mutex::new(Some(control)),
            keeper: Keeper::start(process, servers, program, line, card)?,
        })
    }

    /// Stands in for a network that has ended: hears the card from where the
    /// other left off, and refuses everything.
    pub(crate) fn stand_in(self, line: &UnixStream, card: Card) -> io::Result<StandIn> {
        let Self { process, mut control, .. } = self;
        let (_, servers) = join(&mut control, line, card, true, None)?;
        Ok(StandIn { _process: process, _control: control, servers })
    }
}

/// What stands in for a network. Dropping it ends it.
pub(crate) struct StandIn {
    _process: Process,
    _control: UnixStream,
    servers: UnixStream,
}

impl StandIn {
    /// A second end of the line whose end is its own.
    pub(crate) fn line(&self) -> io::Result<UnixStream> {
        self.servers.try_clone()
    }

    /// Waits until it has ended. It asks for nothing.
    pub(crate) fn wait(mut self) {
        let _ = self.servers.read(&mut [0]);
    }
}

/// Gives a network its lines, and hears how it began. Returns the authority
/// that it has, and the line on which it asks for name servers.
fn join(
    control: &mut UnixStream,
    line: &UnixStream,
    card: Card,
    torn: bool,
    wire: Option<&Wire>,
) -> io::Result<(Option<String>, UnixStream)> {
    let (servers, theirs) = UnixStream::pair()?;
    let (mut lines, mut peers) = (vec![line.as_fd(), theirs.as_fd()], None);
    if let Some(wire) = wire {
        lines.push(wire.listener.as_fd());
        lines.extend(wire.lines.iter().map(|(_, line)| line.as_fd()));
        let others = wire.lines.iter().map(|(peer, _)| peer.clone()).collect();
        peers = Some((wire.own.clone(), others));
    }
    let order = Order::Join(Joining::new(card, torn, peers));
    // What it has to say where it could not make ready is waiting already.
    let told = say(control, &order).and_then(|()| give(control, &lines));
    match hear(&mut InTime::new(control), MAX_ANSWER) {
        Ok(Answer::Joined { authority }) => told.map(|()| (authority, servers)),
        Ok(Answer::Failed(why)) => Err(io::Error::other(why)),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(e) => Err(ended(&e)),
    }
}

/// The network of one guest. Dropping it ends it, and all its connections.
#[derive(Debug)]
pub struct Network {
    card: Card,
    authority: Option<String>,
    policy: Mutex<Arc<Policy>>,
    /// Until it is known that nobody is there.
    control: Mutex<Option<UnixStream>>,
    keeper: Keeper,
}

impl Network {
    /// Starts a network for the guest whose card is on `line`: see
    /// [`Beginning`].
    pub fn start(
        program: &Program,
        line: UnixStream,
        access: &Access,
        wire: Option<Wire>,
    ) -> io::Result<Self> {
        Beginning::new(program, access)?.join(line, wire)
    }

    /// The guest's card.
    pub fn card(&self) -> Card {
        self.card
    }

    /// Whom the guest is to trust besides, as PEM, where it has secrets.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        lock(&self.policy).clone()
    }

    /// Puts another policy in force; what it does not allow is closed. Fails
    /// where the network has ended: then nothing is open.
    pub fn replace(&self, policy: Policy) -> io::Result<()> {
        let mut own = lock(&self.policy);
        match self.ask(&Order::Replace(policy.clone()))? {
            Answer::Replaced => *own = Arc::new(policy),
            _ => return Err(self.give_up(io::ErrorKind::InvalidData.into())),
        }
        Ok(())
    }

    /// The rules that open what the guest has reached so far, and nothing else.
    /// Fails where the network has ended.
    pub fn rules(&self) -> io::Result<Vec<String>> {
        match self.ask(&Order::Rules)? {
            Answer::Rules(rules) => Ok(rules),
            _ => Err(self.give_up(io::ErrorKind::InvalidData.into())),
        }
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        match self.ask(&Order::Mark) {
            Ok(Answer::Mark(mark)) => mark,
            // What comes of it is told by whoever asks what came since.
            _ => Mark::default(),
        }
    }

    /// What went through and what was refused since then: everything, where the
    /// network has ended.
    pub fn since(&self, mark: &Mark) -> (Traffic, Vec<Denied>) {
        match self.ask(&Order::Since(mark.clone())) {
            Ok(Answer::Since(traffic, denied)) => (traffic, denied),
            _ => (Traffic::default(), vec![Denied::all()]),
        }
    }

    /// The process that it is, until it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.keeper.pid()
    }

    /// One order and its answer. One that is late has none any more: nobody
    /// could tell to what it would belong.
    fn ask(&self, order: &Order) -> io::Result<Answer> {
        let mut control = lock(&self.control);
        let none = || io::Error::new(io::ErrorKind::NotConnected, GONE);
        let asked = control.as_mut().ok_or_else(none)?;
        let answer = say(asked, order).and_then(|()| hear(&mut InTime::new(asked), MAX_ANSWER));
        answer.map_err(|e| {
            *control = None;
            self.keeper.end_first();
            ended(&e)
        })
    }

    fn give_up(&self, why: io::Error) -> io::Error {
        *lock(&self.control) = None;
        self.keeper.end_first();
        why
    }
}

/// What is said of a network that is no more.
const GONE: &str = "the VM's network has ended";

fn ended(source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("{GONE}: {source}"))
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads for so long and no longer, however little comes at a time.
struct InTime<'a> {
    from: &'a mut UnixStream,
    until: Instant,
}

impl<'a> InTime<'a> {
    fn new(from: &'a mut UnixStream) -> Self {
        Self { from, until: Instant::now() + PATIENCE }
    }
}

impl Read for InTime<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.from.set_read_timeout(Some(left))?;
        self.from.read(buffer)
    }
}
