//! Forks: more machines of one that runs.
//!
//! The machine is copied while it goes on, the copy is made a template of its
//! own, and each fork is restored from that. The template goes with the last
//! of them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use lampyr_store::{Lock, Part, Staging, Store, at};
use lampyr_types::SandboxId;

use crate::copy::Copy;
use crate::session::start::hand_over;
use crate::template::{Purpose, assemble};
use crate::{Error, Host, Leash, Origin, SessionClient, SessionRequest, stop_session};

/// What the names of forks' templates begin with.
pub(crate) const PREFIX: &str = "fork-";
/// The lock in a fork's template that all of its forks share.
const HELD: &str = "held";
/// The mark in a fork's template that all of its forks live on without their
/// leashes: it is there for all of them at once, or for none.
const KEPT: &str = "kept";

/// Forks to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForkRequest {
    /// How many.
    pub count: u32,
    /// Whether each ends with its leash, until [`Forked::keep`].
    pub attached: bool,
    /// Fork it even if it holds secrets. The forks hold none: what is in their
    /// place in the guest opens nothing.
    pub with_secrets: bool,
}

/// What came of forking a session.
#[derive(Debug)]
pub struct Forked {
    /// The new sessions, each with its leash.
    pub sessions: Vec<(SandboxId, Leash)>,
    /// How long the one that was forked stood still.
    pub pause: Duration,
    template: PathBuf,
}

impl Forked {
    /// Lets all of them live on without their leashes.
    ///
    /// # Errors
    ///
    /// Where that cannot be written down, none does.
    pub fn keep(&self) -> Result<(), Error> {
        let mark = self.template.join(KEPT);
        Ok(std::fs::write(&mark, "").map_err(at(&mark))?)
    }
}

/// A share of a fork's template.
#[derive(Debug)]
pub(crate) struct Held {
    lock: Option<Lock>,
    dir: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lock = None;
        // Whoever is the last can have it alone.
        if let Ok(Some(_alone)) = Lock::try_take(&self.dir.join(HELD)) {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Keeps the template of a fork where it is; with its key.
pub(crate) fn hold(store: &Store, id: SandboxId) -> Result<(Held, String), Error> {
    let key = format!("{PREFIX}{id}");
    let dir = store.dir(Part::Templates)?.join(&key);
    let held = dir.join(HELD);
    if !held.exists() {
        return Err(Error::ForkGone);
    }
    Ok((Held { lock: Some(Lock::share(&held)?), dir }, key))
}

/// Whether what started as this lives on without its leash.
pub(crate) fn is_kept(store: &Store, origin: &Origin) -> bool {
    let Origin::Fork(id) = origin else { return false };
    // Where the store is gone already it is not to be made again.
    let templates = store.root().join(Part::Templates.name());
    templates.join(format!("{PREFIX}{id}")).join(KEPT).exists()
}

/// Whether nobody needs a fork's template any more.
pub(crate) fn is_abandoned(template: &Path) -> bool {
    let name = template.file_name().unwrap_or_default();
    let named = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    named && matches!(Lock::try_take(&template.join(HELD)), Ok(Some(_)))
}

/// Starts sessions that are what the session called `word` is now. It
/// goes on at once. `owner` makes the program that owns a session, as for
/// [`crate::start_session`].
///
/// # Errors
///
/// Where one of them cannot be started, none is left; nor where whoever forks is
/// ended before all of them run.
pub async fn fork(
    host: &Host,
    word: &str,
    wanted: ForkRequest,
    owner: impl Fn() -> io::Result<Command>,
) -> Result<Forked, Error> {
    let staging = host.store.stage()?;
    let client = SessionClient::connect(host.store.root(), word).await?;
    let copy = client.copy_to(staging.path(), wanted.with_secrets).await?;
    same_engine(host, &copy)?;
    let (id, held) = template(host, &copy, &staging)?;
    drop(staging);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let request = SessionRequest {
        name: None,
        origin: Origin::Fork(id),
        forwards: Vec::new(),
        attached: true,
        // Each has two that work while it wakes up alone.
        crowd: 2 * wanted.count as usize > processors,
        ..copy.request
    };
    let starting = (0..wanted.count).map(|_| start(&request, owner()));
    // More at once would only wait for one another.
    let started: Vec<_> = stream::iter(starting).buffered(2 * processors).collect().await;
    let sessions = all_or_none(host, started).await?;
    let forked = Forked { sessions, pause: copy.pause, template: held.dir.clone() };
    if !wanted.attached {
        forked.keep()?;
    }
    Ok(forked)
}

async fn start(
    request: &SessionRequest,
    owner: io::Result<Command>,
) -> Result<(SandboxId, Leash), Error> {
    hand_over(request, owner.map_err(Error::Owner)?).await
}

/// What one engine saved no other restores.
fn same_engine(host: &Host, copy: &Copy) -> Result<(), Error> {
    let (theirs, ours) = (&copy.engine, host.engine.fingerprint());
    if *theirs == ours {
        return Ok(());
    }
    Err(Error::Incompatible(format!("it needs {theirs}, here is {ours}")))
}

/// All that were started, or none of them where one could not be.
async fn all_or_none(
    host: &Host,
    started: Vec<Result<(SandboxId, Leash), Error>>,
) -> Result<Vec<(SandboxId, Leash)>, Error> {
    let (there, failed): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    let there: Vec<_> = there.into_iter().flatten().collect();
    let Some(failure) = failed.into_iter().find_map(Result::err) else { return Ok(there) };
    for (sid, _) in there {
        // Why they are stopped is what is told.
        let _ = stop_session(host.store.root(), &sid.to_string(), Duration::ZERO).await;
    }
    Err(failure)
}

/// Makes the template of a copy.
fn template(host: &Host, copy: &Copy, staging: &Staging) -> Result<(SandboxId, Held), Error> {
    let id = SandboxId::random();
    let key = format!("{PREFIX}{id}");
    let purpose = Purpose::copy_of(&copy.ground, key.clone());
    let parts = host.store.stage()?;
    let lock = Lock::share(&parts.path().join(HELD))?;
    assemble(&parts, &purpose, &copy.moment(staging.path())?)?;
    let dir = host.store.dir(Part::Templates)?.join(&key);
    parts.place(&dir)?;
    Ok((id, Held { lock: Some(lock), dir }))
}
