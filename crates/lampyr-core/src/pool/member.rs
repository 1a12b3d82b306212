//! The owner of a member: one process that holds the machine from its restore
//! to its end, first for the pool and then for the one who claims it.

use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::Duration;

use lampyr_engine::Machine;
use lampyr_store::at;
use lampyr_types::SandboxId;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use super::handover::{self, Given};
use super::record::announce;
use super::{PoolMachine, warm};
use crate::sandbox::Resting;
use crate::session::socket;
use crate::template::{self, Purpose};
use crate::{Error, Host, OwnerReply};

/// How long a claimant may take to be given, or told, something.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether what it was made from is the same still.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A member to make, as its owner is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMemberRequest {
    /// Whose it is.
    pub pool: SandboxId,
    /// What it is.
    pub machine: PoolMachine,
}

/// What a member's owner says to its keeper, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberWord {
    /// How the start went.
    Started(OwnerReply),
    /// Somebody has claimed it.
    Claimed,
    /// What it was made from is another one now: no run wants it, and it ends.
    Outdated,
}

/// A member that waits.
struct Member {
    resting: Resting,
    listener: UnixListener,
    mark: Mark,
    /// The template that it was made from.
    key: String,
}

/// What makes a member known to those who look for one, until it is dropped.
struct Mark(PathBuf);

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes a member and owns it to its end: until its machine ends, its claimant
/// is gone or, before it is claimed, it is `orphaned`. `tell` says whether it
/// was heard.
pub async fn own_member(
    host: &Host,
    request: &PoolMemberRequest,
    tell: impl Fn(MemberWord) -> bool,
    orphaned: impl Future<Output = ()>,
) {
    let mut orphaned = pin!(orphaned);
    let started = tokio::select! {
        started = Box::pin(start(host, request)) => started,
        () = &mut orphaned => return,
    };
    match started {
        Ok(member) => {
            let ready = MemberWord::Started(OwnerReply::Ready(member.resting.id));
            if tell(ready) {
                let outdated = outdated(host, &request.machine, member.key.clone());
                member.serve(&tell, orphaned, outdated).await;
            }
        }
        Err(e) => drop(tell(MemberWord::Started(Err(e).into()))),
    }
}

async fn start(host: &Host, request: &PoolMemberRequest) -> Result<Member, Error> {
    let origin = &request.machine.origin;
    let purpose = Purpose::new(host, origin, request.machine.shape()).await?;
    let key = purpose.key.clone();
    let resting = warm::warm(host, origin, purpose).await?;
    let dir = resting.home.path();
    let listener = socket::listen(dir).map_err(at(dir))?;
    let mark = Mark(announce(&host.store, &key, resting.id, request.pool)?);
    Ok(Member { resting, listener, mark, key })
}

/// Waits until a run like this would be made from another template.
async fn outdated(host: &Host, machine: &PoolMachine, key: String) {
    let now = || template::key_now(host, &machine.origin, machine.shape());
    while now().is_none_or(|now| now == key) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

impl Member {
    /// Waits to be claimed, and then for the claimant to go.
    async fn serve(
        self,
        tell: &impl Fn(MemberWord) -> bool,
        orphaned: Pin<&mut impl Future<Output = ()>>,
        outdated: impl Future<Output = ()>,
    ) {
        let Self { resting, listener, mark, .. } = self;
        let Resting { mut machine, line, home, .. } = resting;
        let card = machine.card();
        let claimant = tokio::select! {
            claimant = first(&listener) => Some(claimant),
            _ = machine.ended() => None,
            () = orphaned => None,
            () = outdated => {
                tell(MemberWord::Outdated);
                None
            }
        };
        drop((mark, listener));
        let claimant = match claimant {
            Some(claimant) => {
                tell(MemberWord::Claimed);
                Some(belong(claimant, Given { line, card }, &mut *machine).await)
            }
            None => None,
        };
        machine.stop().await;
        drop(home);
        // A claimant waits for this, which says that nothing is left.
        drop(claimant);
    }
}

/// The first who connects and may.
async fn first(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((claimant, _)) if socket::is_ours(&claimant) => return claimant,
            Ok(_stranger) => {}
            // Out of descriptors, which may pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Gives the machine to its claimant, until that is gone or the machine ends.
async fn belong(mut claimant: UnixStream, lines: Given, machine: &mut dyn Machine) -> UnixStream {
    let giving = handover::give(&claimant, &lines);
    let given = tokio::time::timeout(PATIENCE, giving).await;
    drop(lines);
    if !matches!(given, Ok(Ok(()))) {
        return claimant;
    }
    let ended = tokio::select! {
        () = handover::gone(&mut claimant) => None,
        ended = machine.ended() => Some(ended),
    };
    if let Some(ended) = ended {
        let told = handover::say(&mut claimant, ended);
        let _ = tokio::time::timeout(PATIENCE, told).await;
    }
    claimant
}
