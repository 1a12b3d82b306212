//! Volumes: directories that outlive the sandboxes that they are in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::http::{Ask, call, done, exists, route};
use crate::sandbox::unless_missing;

/// A volume that there is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// What is in it, in bytes.
    pub size_bytes: u64,
    /// The most that may be in it, in bytes; nothing bounds it where there is none.
    pub quota_bytes: Option<u64>,
    /// What is noted about it.
    pub labels: BTreeMap<String, String>,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// When it was last mounted, likewise.
    pub last_used: Option<String>,
}

/// What a volume is to be that is not there yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VolumeOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<String>,
    labels: BTreeMap<String, String>,
}

impl VolumeOptions {
    /// Without a bound, and with nothing noted.
    pub fn new() -> Self {
        Self::default()
    }

    /// The most that may be in it, in MiB; a guest sees a full disk then.
    #[must_use]
    pub fn quota_mib(self, mib: u64) -> Self {
        Self { quota: Some(format!("{mib}M")), ..self }
    }

    /// Something that is noted about it.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }
}

/// Makes a volume, unless it is there; one that is there stays as it is.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{LaunchOptions, Mount, VolumeOptions, ensure_volume, run_in_sandbox};
///
/// let volume = ensure_volume("cache", VolumeOptions::new().quota_mib(64)).await?;
/// assert_eq!(volume.quota_bytes, Some(64 << 20));
/// for expected in ["1\n", "1\n2\n"] {
///     let options = LaunchOptions::new("agent").mount("/cache", Mount::volume("cache"));
///     let out = run_in_sandbox(options, async |sandbox| {
///         sandbox.shell("cd /cache; echo $(($(wc -l < f || echo 0) + 1)) >> f; cat f").await
///     });
///     assert_eq!(out.await?.stdout(), expected);
/// }
/// # lampyr_sdk::remove_volume("cache").await?;
/// # Ok(())
/// # }
/// ```
pub async fn ensure_volume(name: &str, options: VolumeOptions) -> Result<Volume, Error> {
    call(Ask::put(route("volumes", name, "")).json(&options)?).await
}

/// All volumes that there are, by name.
pub async fn list_volumes() -> Result<Vec<Volume>, Error> {
    call(Ask::get("/v1/volumes")).await
}

/// Whether there is a volume of this name.
pub async fn volume_exists(name: &str) -> Result<bool, Error> {
    exists(Ask::get(route("volumes", name, ""))).await
}

/// Removes a volume and what is in it; it may be gone. One that is mounted is an
/// error.
pub async fn remove_volume(name: &str) -> Result<(), Error> {
    unless_missing(done(Ask::delete(route("volumes", name, ""))).await)
}
