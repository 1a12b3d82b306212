//! How a member's owner gives the connection to its guest away.
//!
//! One byte, the version of all this, and with it the descriptor, and that of the
//! guest's network card where it has one. After that
//! the claimant says nothing: that it holds on is what keeps the machine. The
//! owner says one thing, if the machine ends by itself: how.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lampyr_engine::Ended;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

const VERSION: u8 = b'1';
/// No last words are longer than this, in bytes.
const MAX_WORDS: usize = 64 * 1024;

/// How a machine ended, as its owner tells it.
#[derive(Serialize, Deserialize)]
struct LastWords {
    how: String,
    log: String,
    starved: bool,
}

/// What is given away.
pub(super) struct Given {
    /// The connection to the guest's agent.
    pub(super) line: UnixStream,
    /// The other end of its network card, where it has one.
    pub(super) card: Option<UnixStream>,
}

/// Gives it away.
pub(super) async fn give(to: &UnixStream, given: &Given) -> io::Result<()> {
    let lines: Vec<_> = [&given.line].into_iter().chain(&given.card).map(AsFd::as_fd).collect();
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        rights.push(SendAncillaryMessage::ScmRights(&lines));
        let sent = sendmsg(to, &[IoSlice::new(&[VERSION])], &mut rights, SendFlags::empty());
        Ok(sent.map(drop)?)
    };
    to.async_io(Interest::WRITABLE, send).await
}

/// Takes what [`give`] gives.
pub(super) async fn take(from: &UnixStream) -> io::Result<Given> {
    let lines = from.async_io(Interest::READABLE, || receive(from.as_fd())).await?;
    let mut lines = lines.into_iter().map(ours);
    let line = lines.next().ok_or(io::ErrorKind::InvalidData)??;
    Ok(Given { line, card: lines.next().transpose()? })
}

/// What no program that we start is to have.
fn ours(line: OwnedFd) -> io::Result<UnixStream> {
    fcntl_setfd(&line, FdFlags::CLOEXEC)?;
    UnixStream::from_std(line.into())
}

fn receive(from: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut version = [0];
    recvmsg(from, &mut [IoSliceMut::new(&mut version)], &mut rights, RecvFlags::empty())?;
    let given = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(lines) => Some(lines.collect()),
        _ => None,
    });
    let strange = || io::Error::from(io::ErrorKind::InvalidData);
    given.filter(|_| version == [VERSION]).ok_or_else(strange)
}

/// Says how the machine ended. Nobody may be there to hear it.
pub(super) async fn say(to: &mut UnixStream, Ended { how, log, starved }: Ended) {
    let words = serde_json::to_vec(&LastWords { how, log, starved }).unwrap_or_default();
    let _ = to.write_all(&words).await;
}

/// Waits until the other end is gone, and drops what it says.
pub(super) async fn gone(from: &mut UnixStream) {
    let mut said = [0; 64];
    while from.read(&mut said).await.is_ok_and(|n| n > 0) {}
}

/// What an owner says at the end, as far as it has come.
#[derive(Default)]
pub(super) struct Heard(Vec<u8>);

impl Heard {
    /// Listens to the end. May be given up and begun again.
    pub(super) async fn end(&mut self, from: &mut UnixStream) -> Ended {
        let mut buffer = [0; 4096];
        while let Ok(n) = from.read(&mut buffer).await {
            if n == 0 || self.0.len() > MAX_WORDS {
                break;
            }
            self.0.extend(&buffer[..n]);
        }
        match serde_json::from_slice(&self.0) {
            Ok(LastWords { how, log, starved }) => Ended { how, log, starved },
            Err(_) => Ended { how: "its owner is gone".into(), log: String::new(), starved: false },
        }
    }
}
