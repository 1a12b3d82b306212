//! Claiming a member: what a run does before it restores a machine itself.

use std::time::Duration;

use lampyr_engine::{Copied, CopyTo, Ended, EngineError, Machine, Promise};
use lampyr_store::Part;
use lampyr_types::SandboxId;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::handover::{self, Given, Heard};
use super::record::waiting;
use crate::Host;
use crate::sandbox::{Home, Resting};
use crate::session::socket;

/// How long an owner may take to give its member away. It takes a hundredth of
/// that; of one that takes longer the run wants nothing any more.
const CLAIM_WAIT: Duration = Duration::from_secs(1);
/// The same for what was claimed, to know who it is.
const AWAKE_WAIT: Duration = Duration::from_secs(3);
/// How long an owner may take to remove a member.
const END_WAIT: Duration = Duration::from_secs(10);

/// A member made from the template with this key; `None` where none can be
/// had, for whatever reason. Nobody else has it.
pub(crate) async fn claim(host: &Host, key: &str) -> Option<Resting> {
    for id in waiting(&host.store, key) {
        match tokio::time::timeout(CLAIM_WAIT, take(host, id)).await {
            Ok(None) => {}
            Ok(claimed) => return claimed,
            Err(_) => return None,
        }
    }
    None
}

async fn take(host: &Host, id: SandboxId) -> Option<Resting> {
    let dir = host.store.root().join(Part::Sandboxes.name()).join(id.to_string());
    let owner = socket::connect(&dir).await.ok()?;
    if !socket::is_ours(&owner) {
        return None;
    }
    let Given { line, card } = handover::take(&owner).await.ok()?;
    let machine = Box::new(Claimed { owner, card, heard: Heard::default() });
    let home = Home::of_another(dir);
    Some(Resting { id, machine, line, patience: AWAKE_WAIT, home, ground: None, crowd: false })
}

/// A machine that somebody else owns for us. Its owner ends it as soon as it
/// sees that we let go.
struct Claimed {
    owner: UnixStream,
    card: Option<UnixStream>,
    heard: Heard,
}

impl Machine for Claimed {
    /// It came with the claim.
    fn channel(&mut self) -> Option<UnixStream> {
        None
    }

    fn card(&mut self) -> Option<UnixStream> {
        self.card.take()
    }

    fn save(self: Box<Self>) -> Promise<'static, Result<Vec<u8>, EngineError>> {
        let source = std::io::ErrorKind::Unsupported.into();
        Box::pin(async { Err(EngineError::Io { what: "save a VM of a pool", source }) })
    }

    fn copy(&mut self, _to: CopyTo) -> Promise<'_, Result<Copied, EngineError>> {
        let source = std::io::ErrorKind::Unsupported.into();
        Box::pin(async { Err(EngineError::Io { what: "copy a VM of a pool", source }) })
    }

    fn merge(&mut self, _number: usize) -> Promise<'_, Result<(), EngineError>> {
        let source = std::io::ErrorKind::Unsupported.into();
        Box::pin(async { Err(EngineError::Io { what: "merge layers of a VM of a pool", source }) })
    }

    fn ended(&mut self) -> Promise<'_, Ended> {
        Box::pin(self.heard.end(&mut self.owner))
    }

    fn stop(mut self: Box<Self>) -> Promise<'static, ()> {
        Box::pin(async move {
            let _ = self.owner.shutdown().await;
            // The owner hangs up when nothing is left.
            let _ = tokio::time::timeout(END_WAIT, self.heard.end(&mut self.owner)).await;
        })
    }

    fn pid(&self) -> Option<u32> {
        None
    }
}
