//! Starting a session: a process that outlives us is told what to own, and
//! says in one line how that went.

use std::path::Path;
use std::process::Stdio;

use lampyr_proto::Failure;
use lampyr_store::{Part, Store};
use lampyr_types::{Name, SandboxId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, Command};
use zeroize::Zeroizing;

use crate::mount::Mounts;
use crate::template::{Shape, Template};
use crate::{Error, Host, SessionRequest};

use super::record::is_alive;

/// No reply is longer than this, in bytes.
const MAX_REPLY: u64 = 64 * 1024;

/// What the owner of a session says once: its whole standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerReply {
    /// The session is there.
    Ready(SandboxId),
    /// A session that lives has its name.
    Taken(Name),
    /// It could not be started.
    Failed {
        /// The kind's word.
        kind: String,
        /// One sentence.
        message: String,
        /// A next step, where there is one.
        hint: Option<String>,
    },
}

impl From<Result<SandboxId, Error>> for OwnerReply {
    fn from(started: Result<SandboxId, Error>) -> Self {
        match started {
            Ok(sid) => Self::Ready(sid),
            Err(Error::NameTaken(name)) => Self::Taken(name),
            Err(e) => {
                let Failure { kind, message, hint, .. } = e.to_failure();
                Self::Failed { kind, message, hint }
            }
        }
    }
}

impl From<OwnerReply> for Result<SandboxId, Error> {
    fn from(reply: OwnerReply) -> Self {
        match reply {
            OwnerReply::Ready(sid) => Ok(sid),
            OwnerReply::Taken(name) => Err(Error::NameTaken(name)),
            OwnerReply::Failed { kind, message, hint } => {
                Err(Failure { kind, message, hint, host_us: None }.into())
            }
        }
    }
}

/// What an attached session hangs on. Once it is dropped, or the process that
/// holds it has ended in whatever way, the session's owner ends the session.
#[derive(Debug)]
pub struct Leash(ChildStdin);

impl Leash {
    /// Whether nobody hangs on it any more: the session has ended, or was told
    /// to live on.
    pub fn is_over(&self) -> bool {
        let mut end = [PollFd::new(&self.0, PollFlags::empty())];
        let polled = poll(&mut end, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && end[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }
}

/// Starts a session. `owner` is the program that will own it: it reads the
/// request from its standard input, calls [`super::own_session`] and writes an
/// [`OwnerReply`].
///
/// What takes long the first time is done here, where there is somebody to
/// see it. Whoever gives up waiting leaves no session behind.
pub async fn start_session(
    host: &Host,
    request: &SessionRequest,
    owner: std::process::Command,
) -> Result<SandboxId, Error> {
    make_ready(host, request).await?;
    hand_over(request, owner).await.map(|(sid, _)| sid)
}

/// Starts a session that ends when its leash is dropped, unless it was detached
/// before; otherwise as [`start_session`] does.
pub async fn start_attached(
    host: &Host,
    request: &SessionRequest,
    owner: std::process::Command,
) -> Result<(SandboxId, Leash), Error> {
    make_ready(host, request).await?;
    hand_over(&SessionRequest { attached: true, ..request.clone() }, owner).await
}

async fn make_ready(host: &Host, request: &SessionRequest) -> Result<(), Error> {
    check_name(&host.store, request)?;
    prepare_session(host, request).await
}

/// Looks for what a session is made of, and makes what takes long the first
/// time. Whoever ends another session for this one does so after that.
///
/// # Errors
///
/// Where it could not be started, as far as that is known before.
pub async fn prepare_session(host: &Host, request: &SessionRequest) -> Result<(), Error> {
    Mounts::open(&host.store, &request.mounts)?;
    let shape = Shape { spec: request.spec(), disk: request.disk() };
    Template::get(host, &request.origin, shape).await.map(drop)
}

/// Starts a process that outlives us, tells it in one line what to own, and
/// hears how that went.
pub(crate) async fn hand_over(
    request: &impl Serialize,
    owner: std::process::Command,
) -> Result<(SandboxId, Leash), Error> {
    let mut owner = Command::from(owner);
    owner.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.spawn().map_err(Error::Owner)?;
    let none = || Error::Owner(std::io::Error::other("it ended without a word"));
    let (stdin, stdout) = (owner.stdin.take(), owner.stdout.take());
    let mut stdin = stdin.ok_or_else(none)?;
    // It may hold secrets, and is wiped once it was said.
    let told = serde_json::to_vec(request).map(Zeroizing::new).map_err(std::io::Error::other);
    let mut told = told.map_err(Error::Owner)?;
    told.push(b'\n');
    stdin.write_all(&told).await.map_err(Error::Owner)?;
    let mut line = String::new();
    if let Some(stdout) = stdout {
        let read = BufReader::new(stdout.take(MAX_REPLY)).read_line(&mut line).await;
        read.map_err(Error::Owner)?;
    }
    let reply = serde_json::from_str::<OwnerReply>(&line).map_err(|_| none())?;
    Result::from(reply).map(|sid| (sid, Leash(stdin)))
}

/// A name that is taken is said at once; the owner looks again when it takes it.
fn check_name(store: &Store, request: &SessionRequest) -> Result<(), Error> {
    let Some(name) = &request.name else { return Ok(()) };
    let link = store.root().join(Part::Names.name()).join(Path::new(name.as_str()));
    if is_alive(&link)? { Err(Error::NameTaken(name.clone())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_leash_is_over_once_nobody_hangs_on_it() {
        let ready = serde_json::to_string(&OwnerReply::Ready(SandboxId::random())).unwrap();
        let mut owner = std::process::Command::new("/bin/sh");
        owner.args(["-c", "read request; echo \"$0\"; read more", &ready]);
        let (_, mut leash) = hand_over(&"a request", owner).await.unwrap();
        assert!(!leash.is_over());
        leash.0.write_all(b"let go\n").await.unwrap();
        let waiting = async {
            while !leash.is_over() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.unwrap();
    }
}
