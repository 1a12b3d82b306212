//! A network's handle: what its owner has of the process that it is.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as Line;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lampyr_jail::Jail;
use lampyr_proto::Card;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::access::Access;
use crate::asker::{Asker, Mark};
use crate::card;
use crate::control::{Answer, Joining, MAX_ANSWER, Order, PATIENCE, give, hear, say};
use crate::keeper::{Keeper, Kept};
use crate::ledger::{Denied, Suggestion, Traffic};
use crate::peer::Wire;
use crate::policy::Policy;

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
pub(crate) struct Process(pub(crate) Child);

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
    pub async fn new(program: &Program, access: &Access) -> io::Result<Self> {
        let (mut control, theirs) = UnixStream::pair()?;
        let mut command = Command::new(&program.path);
        command.args(&program.arguments);
        Jail { max_files: MAX_FILES, ..Jail::default() }.confine(&mut command);
        command.envs(AUTHORITIES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(OwnedFd::from(theirs.into_std()?));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = Process(command.spawn()?);
        drop(command);
        in_time(say(&mut control, &Order::Begin(Box::new(access.clone())))).await?;
        let policy = access.policy.clone();
        Ok(Self { program: program.clone(), policy, process, control })
    }

    /// Gives it the guest's card on `line`, framed as QEMU does it; with `wire`
    /// the guest is on a private network.
    pub async fn join(self, line: Line, wire: Option<Wire>) -> io::Result<Network> {
        let card = wire.as_ref().map_or_else(card::random, |wire| card::of(&wire.own));
        let Self { program, policy, process, mut control } = self;
        let joined = in_time(join(&mut control, &line, card, false, wire.as_ref())).await?;
        // They are the network's now, and close with it.
        drop(wire);
        let (authority, servers) = joined;
        Ok(Network {
            card,
            authority,
            policy: Mutex::new(Arc::new(policy)),
            turn: tokio::sync::Mutex::new(()),
            asker: Asker::new(control),
            keeper: Keeper::start(Kept { process, servers, program, line, card }),
        })
    }

    /// Stands in for a network that has ended: hears the card from where the
    /// other left off, and refuses everything.
    pub(crate) async fn stand_in(self, line: &Line, card: Card) -> io::Result<StandIn> {
        let Self { process, mut control, .. } = self;
        let (_, servers) = in_time(join(&mut control, line, card, true, None)).await?;
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
    /// Waits until it has ended. It asks for nothing.
    pub(crate) async fn ended(&mut self) {
        let _ = self.servers.read(&mut [0]).await;
    }
}

/// Gives a network its lines, and hears how it began. Returns the authority
/// that it has, and the line on which it asks for name servers.
async fn join(
    control: &mut UnixStream,
    line: &Line,
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
    let told = match say(control, &order).await {
        Ok(()) => give(control, &lines).await,
        failed => failed,
    };
    // What it has to say where it could not make ready is waiting already.
    match hear(control, MAX_ANSWER).await? {
        Answer::Joined { authority } => told.map(|()| (authority, servers)),
        Answer::Failed(why) => Err(io::Error::other(why)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The network of one guest. Dropping it ends it, and all its connections.
#[derive(Debug)]
pub struct Network {
    card: Card,
    authority: Option<String>,
    policy: Mutex<Arc<Policy>>,
    /// Policies are replaced one after the other.
    turn: tokio::sync::Mutex<()>,
    asker: Asker,
    keeper: Keeper,
}

impl Network {
    /// Starts a network for the guest whose card is on `line`: see
    /// [`Beginning`].
    pub async fn start(
        program: &Program,
        line: Line,
        access: &Access,
        wire: Option<Wire>,
    ) -> io::Result<Self> {
        Beginning::new(program, access).await?.join(line, wire).await
    }

    /// The guest's card.
    pub fn card(&self) -> Card {
        self.card
    }

    /// Whom the guest is to trust besides, as PEM, where it has secrets.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The process that it was when it began.
    pub fn pid(&self) -> u32 {
        self.keeper.first
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        lock(&self.policy).clone()
    }

    /// Puts another policy in force; what it does not allow is closed. Fails
    /// where the network has ended: then nothing is open.
    pub async fn replace(&self, policy: Policy) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        match self.ask(Order::Replace(policy.clone())).await? {
            Answer::Replaced => *lock(&self.policy) = Arc::new(policy),
            _ => return Err(self.give_up(&io::ErrorKind::InvalidData.into())),
        }
        Ok(())
    }

    /// The rules that open what the guest has reached so far, and nothing else.
    /// Fails where the network has ended.
    pub async fn suggestion(&self) -> io::Result<Suggestion> {
        match self.ask(Order::Rules).await? {
            Answer::Rules(suggestion) => Ok(suggestion),
            _ => Err(self.give_up(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Marks this moment, without waiting for the network.
    pub fn mark(&self) -> Mark {
        self.asker.mark()
    }

    /// What went through and what was refused since then: everything, where the
    /// network has ended.
    pub async fn since(&self, mark: Mark) -> (Traffic, Vec<Denied>) {
        self.counted(self.asker.since(mark).await)
    }

    /// The same since its beginning.
    pub async fn total(&self) -> (Traffic, Vec<Denied>) {
        self.counted(self.asker.ask(Order::Since(0)).await)
    }

    fn counted(&self, answer: io::Result<Answer>) -> (Traffic, Vec<Denied>) {
        match answer {
            Ok(Answer::Since(traffic, denied)) => (traffic, denied),
            _ => {
                self.keeper.end_first();
                (Traffic::default(), vec![Denied::all()])
            }
        }
    }

    async fn ask(&self, order: Order) -> io::Result<Answer> {
        self.asker.ask(order).await.map_err(|e| self.give_up(&e))
    }

    /// A network that does not answer, or not what it was asked, is none.
    fn give_up(&self, why: &io::Error) -> io::Error {
        self.keeper.end_first();
        ended(why)
    }
}

/// What is said of a network that is no more.
const GONE: &str = "the VM's network has ended";

fn ended(source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("{GONE}: {source}"))
}

/// Waits no longer than a network may take.
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let done = timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|e| ended(&e))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
