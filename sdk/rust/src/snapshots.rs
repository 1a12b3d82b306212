//! Snapshots that there are, and those that are taken of a sandbox.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::asking::asking;
use crate::error::Error;
use crate::http::{Ask, call, exists, route};
use crate::sandbox::RemoveOptions;

/// A snapshot: disk and memory of a VM at one instant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// The digest of its manifest.
    pub digest: String,
    /// When it was taken, as RFC 3339 has it.
    pub created: String,
    /// The image beneath its disk.
    pub image: String,
    /// Its processors.
    pub cpus: u32,
    /// Its memory, in bytes.
    pub memory: u64,
    /// The size of its disk, in bytes.
    pub disk_size: u64,
    /// Whether its VM has a network card.
    pub network: bool,
    /// What is noted about it.
    pub labels: BTreeMap<String, String>,
    /// The snapshot that it was built on.
    pub parent: Option<Parent>,
    /// What it takes on this host that no other does, in bytes.
    pub own_bytes: u64,
    /// What it takes with all that it was built on, in bytes.
    pub total_bytes: u64,
    /// How long the sandbox stood still, in milliseconds, where it has just been
    /// taken of one.
    pub pause_ms: Option<f64>,
    /// Whether it was there already, made just so, where it has just been built.
    #[serde(default)]
    pub cached: bool,
    /// What is wrong with it, where it cannot be read: all else but its name is
    /// empty then, and it can be removed.
    pub damaged: Option<String>,
}

/// The snapshot that another was built on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Parent {
    /// The digest of its manifest.
    pub digest: String,
    /// Its name, where it has one still.
    pub name: Option<String>,
}

/// A snapshot to be taken; see [`Sandbox::snapshot`](crate::Sandbox::snapshot).
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{LaunchOptions, launch_sandbox};
/// # use lampyr_sdk::{RemoveOptions, remove_snapshot};
///
/// let sandbox = launch_sandbox(LaunchOptions::new("agent")).await?;
/// sandbox.shell("echo draft > /root/report").await?;
/// let taken = sandbox.snapshot("prepared").label("team", "docs").await?;
/// assert!(taken.pause_ms.is_some());
///
/// let other = launch_sandbox(LaunchOptions::new("other").snapshot("prepared")).await?;
/// assert_eq!(other.read_file("/root/report").await?, b"draft\n");
/// # other.stop().await?;
/// # remove_snapshot("prepared", RemoveOptions::new()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "it is taken once it is awaited"]
pub struct TakeSnapshot<'a> {
    sandbox: &'a str,
    name: String,
    overwrite: bool,
    labels: BTreeMap<String, String>,
    with_secrets: bool,
}

impl<'a> TakeSnapshot<'a> {
    pub(crate) fn new(sandbox: &'a str, name: String) -> Self {
        Self { sandbox, name, overwrite: true, labels: BTreeMap::new(), with_secrets: false }
    }

    /// Whether an earlier snapshot of the name is replaced, which it is where
    /// nothing is said; else it is an error.
    pub fn overwrite(self, overwrite: bool) -> Self {
        Self { overwrite, ..self }
    }

    /// Something that is noted about it.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Whether it is also taken of a sandbox that has secrets. Their values are
    /// in no snapshot.
    pub fn with_secrets(self, with_secrets: bool) -> Self {
        Self { with_secrets, ..self }
    }

    async fn take(self) -> Result<Snapshot, Error> {
        let Self { sandbox, name, overwrite, labels, with_secrets } = self;
        let asked = json!({
            "sandbox": sandbox, "name": name, "overwrite": overwrite, "labels": labels,
            "with_secrets": with_secrets,
        });
        call(Ask::post("/v1/snapshots").json(&asked)?).await
    }
}

asking!(TakeSnapshot<'a>, take, Snapshot);

/// The status of a snapshot that is there, and of no use.
const DAMAGED: u16 = 422;

/// All snapshots that there are, by name, also those that are `damaged`.
pub async fn list_snapshots() -> Result<Vec<Snapshot>, Error> {
    call(Ask::get("/v1/snapshots")).await
}

/// Whether there is a snapshot of this name, be it damaged.
pub async fn snapshot_exists(name: &str) -> Result<bool, Error> {
    match exists(Ask::get(route("snapshots", name, ""))).await {
        Err(e) if e.failure().status() == Some(DAMAGED) => Ok(true),
        known => known,
    }
}

/// Removes a snapshot; it may be gone. One that others were built on is an
/// error, unless `force` removes those, too. The names of what was removed.
pub async fn remove_snapshot(name: &str, options: RemoveOptions) -> Result<Vec<String>, Error> {
    let force = if options.is_forced() { "true" } else { "false" };
    match call(Ask::delete(route("snapshots", name, "")).query("force", force)).await {
        Ok(Removed { removed }) => Ok(removed),
        Err(e) if e.is_missing() => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

#[derive(Deserialize)]
struct Removed {
    removed: Vec<String>,
}
