//! What a network's owner and its process say to each other, on a socket that
//! nobody else has: four bytes of length, the highest first, and JSON.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use lampyr_proto::Card;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use crate::access::Access;
use crate::ledger::{Denied, Suggestion, Traffic};
use crate::peer::{MAX_PEERS, Peer};
use crate::policy::Policy;

/// How long a network may take to begin, or to answer. It takes a millisecond;
/// the rest is for a host that is very busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest order, in bytes. Who gives it is trusted.
pub(crate) const MAX_ORDER: usize = 16 << 20;
/// The longest answer, in bytes. A guest may have taken over who gives it.
pub(crate) const MAX_ANSWER: usize = 1 << 20;
/// The most descriptors that are given at once.
const MAX_GIVEN: usize = MAX_PEERS + 3;

/// What an owner wants.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// To make ready, for this.
    Begin(Box<Access>),
    /// To serve a card. With this come its line, a line to ask for the host's
    /// name servers, and on a private network its listener and lines.
    Join(Joining),
    /// To put another policy in force.
    Replace(Policy),
    /// The rules that open what was reached.
    Rules,
    /// To remember this moment by a number. It has no answer.
    Mark(u64),
    /// To forget a moment. It has no answer.
    Forget(u64),
    /// What came since a moment, which is forgotten with that; since its
    /// beginning for one that it does not remember.
    Since(u64),
}

/// Whose card it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Joining {
    card: ([u8; 6], Ipv4Addr, Ipv6Addr),
    /// Whether somebody else read from the card's line before.
    pub(crate) torn: bool,
    /// Who it is on a private network, and who was there before.
    pub(crate) peers: Option<(Peer, Vec<Peer>)>,
}

/// What comes of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Joined {
        authority: Option<String>,
    },
    Replaced,
    Rules(Suggestion),
    Since(Traffic, Vec<Denied>),
    /// It cannot be done; why.
    Failed(String),
}

impl Joining {
    pub(crate) fn new(card: Card, torn: bool, peers: Option<(Peer, Vec<Peer>)>) -> Self {
        Self { card: (card.mac, card.v4, card.v6), torn, peers }
    }

    pub(crate) fn card(&self) -> Card {
        let (mac, v4, v6) = self.card;
        Card { mac, v4, v6 }
    }
}

/// What is said may have secrets in it, and is wiped.
fn encode(what: &impl Serialize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; 4]);
    serde_json::to_writer(&mut *bytes, what)?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Room for what comes, where it is not too long.
fn room(length: [u8; 4], most: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = u32::from_be_bytes(length) as usize;
    let fits = length <= most;
    fits.then(|| Zeroizing::new(vec![0; length])).ok_or(io::ErrorKind::InvalidData.into())
}

pub(crate) async fn say(
    to: &mut (impl AsyncWrite + Unpin),
    what: &impl Serialize,
) -> io::Result<()> {
    to.write_all(&encode(what)?).await
}

pub(crate) async fn hear<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut bytes = room(length, most)?;
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Gives descriptors away, with a byte that carries them.
pub(crate) async fn give(to: &UnixStream, given: &[BorrowedFd<'_>]) -> io::Result<()> {
    to.async_io(Interest::WRITABLE, || give_now(to, given)).await
}

fn give_now(to: &UnixStream, given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_GIVEN))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(given)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(to, &[IoSlice::new(&[0])], &mut rights, SendFlags::empty()).map(drop)?)
}

/// Takes what [`give`] gives.
pub(crate) async fn take(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    from.async_io(Interest::READABLE, || take_now(from)).await
}

fn take_now(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_GIVEN))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut carrier = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut carrier)], &mut rights, RecvFlags::empty())?;
    let of_message = |message| match message {
        RecvAncillaryMessage::ScmRights(given) => given.collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    Ok(rights.drain().flat_map(of_message).collect())
}
