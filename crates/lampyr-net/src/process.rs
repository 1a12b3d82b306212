//! The process that a network is. It is told all by its owner, seals itself
//! before it hears the guest's first byte, and ends with its owner.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream as Line};
use std::sync::Arc;

use lampyr_jail::{Identity, Seal};
use lampyr_proto::Card;
use tokio::net::UnixStream;
use tokio::runtime::Builder;

use crate::access::Access;
use crate::control::{Answer, Joining, MAX_ORDER, Order, hear, say, take};
use crate::entropy;
use crate::intercept::Interceptor;
use crate::peer::{Peer, Wire};
use crate::peers::Peers;
use crate::resolver::Servers;
use crate::shared::Shared;
use crate::stack::Stack;

/// The most memory that a network may write to, in bytes: all its bounds
/// together are far below.
const MAX_MEMORY: u64 = 256 << 20;

/// Is the network of whoever holds the other end of `control`, until that end
/// or the card's other end is gone.
pub fn be_network(control: OwnedFd) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(Line::from(control)))
}

async fn live(control: Line) -> io::Result<()> {
    control.set_nonblocking(true)?;
    let mut control = UnixStream::from_std(control)?;
    let ready = match make_ready(&mut control).await {
        Ok(ready) => ready,
        Err(e) => return say(&mut control, &Answer::Failed(e.to_string())).await,
    };
    let Order::Join(joining) = hear(&mut control, MAX_ORDER).await? else {
        return Err(strange());
    };
    let lines = Lines::take(&control).await?;
    serve(control, ready, joining, lines).await
}

/// Does all that needs more than a sealed process has.
async fn make_ready(control: &mut UnixStream) -> io::Result<Ready> {
    let Order::Begin(access) = hear(control, MAX_ORDER).await? else { return Err(strange()) };
    let interceptor = Interceptor::new(&access.secrets)?.map(Arc::new);
    if let Some(interceptor) = &interceptor {
        interceptor.make_ready();
    }
    let identity = Identity::for_vm(u32::from_ne_bytes(entropy::bytes()));
    Seal { identity, max_memory: MAX_MEMORY }.close()?;
    Ok(Ready { access: *access, interceptor })
}

/// What a network that can begin has.
struct Ready {
    access: Access,
    interceptor: Option<Arc<Interceptor>>,
}

/// The lines that come with a [`Joining`].
struct Lines {
    card: Line,
    servers: Line,
    peers: Vec<OwnedFd>,
}

impl Lines {
    async fn take(control: &UnixStream) -> io::Result<Self> {
        let mut given = take(control).await?.into_iter();
        let mut next = || given.next().map(Line::from).ok_or_else(strange);
        let (card, servers) = (next()?, next()?);
        for line in [&card, &servers] {
            line.set_nonblocking(true)?;
        }
        Ok(Self { card, servers, peers: given.collect() })
    }
}

/// A guest's place among others, put together again.
fn wire(peers: Option<(Peer, Vec<Peer>)>, lines: Vec<OwnedFd>) -> io::Result<Option<Wire>> {
    let Some((own, others)) = peers else { return Ok(None) };
    let mut lines = lines.into_iter();
    let listener = UnixListener::from(lines.next().ok_or_else(strange)?);
    let lines = others.into_iter().zip(lines.map(Line::from)).collect();
    Ok(Some(Wire { own, listener, lines }))
}

async fn serve(
    mut control: UnixStream,
    ready: Ready,
    joining: Joining,
    lines: Lines,
) -> io::Result<()> {
    let card = joining.card();
    let servers = Servers::of_owner(lines.servers)?;
    let authority = ready.interceptor.as_deref().map(|own| own.authority().to_owned());
    let shared = Arc::new(Shared::new(ready.access, ready.interceptor, servers));
    let peers = wire(joining.peers, lines.peers)?.map(Peers::new).transpose()?;
    let mut stack = Stack::new(UnixStream::from_std(lines.card)?, card, shared.clone(), peers);
    if joining.torn {
        stack.find_a_frame();
    }
    say(&mut control, &Answer::Joined { authority }).await?;
    tokio::select! {
        // An order that is there comes before what the guest does after it.
        biased;
        _ = obey(control, &shared) => Ok(()),
        () = stack.serve() => Ok(()),
    }
}

/// Does what the owner wants until it is gone.
async fn obey(mut control: UnixStream, shared: &Shared) -> io::Result<()> {
    let mut marks = BTreeMap::new();
    loop {
        let answer = match hear(&mut control, MAX_ORDER).await? {
            Order::Replace(policy) => {
                shared.replace(policy);
                Answer::Replaced
            }
            Order::Rules => Answer::Rules(shared.suggestion()),
            Order::Mark(number) => {
                marks.insert(number, shared.position());
                continue;
            }
            Order::Forget(number) => {
                marks.remove(&number);
                continue;
            }
            Order::Since(number) => {
                let then = marks.remove(&number).unwrap_or_default();
                let (traffic, denied) = shared.since(&then);
                Answer::Since(traffic, denied)
            }
            Order::Begin(_) | Order::Join(_) => return Err(strange()),
        };
        say(&mut control, &answer).await?;
    }
}

/// Serves a guest's card until the other end of `line` is gone, in this very
/// process and within a runtime of the caller's.
pub async fn serve_here(line: Line, card: Card, access: Access) -> io::Result<()> {
    let interceptor = Interceptor::new(&access.secrets)?.map(Arc::new);
    let shared = Arc::new(Shared::new(access, interceptor, Servers::Here));
    Stack::new(UnixStream::from_std(line)?, card, shared, None).serve().await;
    Ok(())
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it said what makes no sense here")
}
