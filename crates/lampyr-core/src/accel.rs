//! Which accelerator really works here.
//!
//! A device file that opens proves nothing: some hosts have a `/dev/kvm` on
//! which no ordinary guest ever comes up. So an accelerator works once a guest
//! has come up on it, in time; the verdict is remembered for as long as what
//! it depends on stays as it is.

use std::time::{Duration, Instant};

use lampyr_engine::{Accel, BootImage, MachineSpec};
use lampyr_image::Kit;
use lampyr_store::{Store, read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, ChannelError};
use crate::{AccelChoice, Error, HostSettings};

/// How long a guest may take to come up. With hardware virtualization it is
/// there within one second.
const PROBE_WAIT: Duration = Duration::from_secs(5);
/// The machine that is tried.
const PROBE_SPEC: MachineSpec = MachineSpec { cpus: 1, memory: 256 << 20, network: false };

/// What was found, and what that depends on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    depends_on: String,
    /// The accelerator that works.
    pub(crate) accel: String,
    /// What was found of each one that was tried before it.
    pub(crate) found: Vec<String>,
}

/// The accelerator to use: the one that was asked for, or the best that works.
pub(crate) async fn choose(
    store: &Store,
    kit: &Kit,
    settings: &HostSettings,
) -> Result<Accel, Error> {
    match settings.accel {
        AccelChoice::Only(accel) => only(accel, settings),
        AccelChoice::Auto => {
            let verdict = verdict(store, kit, settings).await?;
            Ok(verdict.accel.parse().unwrap_or(Accel::Tcg))
        }
    }
}

fn only(accel: Accel, settings: &HostSettings) -> Result<Accel, Error> {
    match settings.engines.obstacle(accel) {
        None => Ok(accel),
        Some(why) => Err(Error::Accel { accel: accel.to_string(), why }),
    }
}

/// The remembered verdict where it still holds, else a new one.
pub(crate) async fn verdict(
    store: &Store,
    kit: &Kit,
    settings: &HostSettings,
) -> Result<Verdict, Error> {
    let depends_on = dependencies(settings)?;
    let path = store.accel_file();
    if let Ok(known) = read_json::<Verdict>(&path)
        && known.depends_on == depends_on
    {
        return Ok(known);
    }
    let _alone = store.making("accel")?;
    let fresh = find(kit, settings, depends_on).await;
    write_json(&path, &fresh)?;
    Ok(fresh)
}

/// The host's boot, its kernel and the engine's program.
fn dependencies(settings: &HostSettings) -> Result<String, Error> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    // A device that appears or whose permissions change is worth another look.
    let open: Vec<_> = settings
        .engines
        .candidates()
        .into_iter()
        .map(|accel| {
            let open = settings.engines.obstacle(accel).is_none();
            format!("{accel}={open}")
        })
        .collect();
    Ok(format!("{} {release} {} {}", boot.trim(), settings.engines.describe()?, open.join(" ")))
}

async fn find(kit: &Kit, settings: &HostSettings, depends_on: String) -> Verdict {
    let mut candidates = settings.engines.candidates();
    let last = candidates.pop().unwrap_or(Accel::Tcg);
    let mut found = Vec::new();
    for accel in candidates {
        match attempt(kit, settings, accel).await {
            Ok(()) => return Verdict { depends_on, accel: accel.to_string(), found },
            Err(why) => found.push(format!("{accel}: {why}")),
        }
    }
    Verdict { depends_on, accel: last.to_string(), found }
}

/// Lets a guest come up on an accelerator.
async fn attempt(kit: &Kit, settings: &HostSettings, accel: Accel) -> Result<(), String> {
    if let Some(why) = settings.engines.obstacle(accel) {
        return Err(why);
    }
    let _task = settings.progress.begin(&format!("trying {accel}"));
    let engine = settings.engines.with(accel).map_err(|e| e.to_string())?;
    let open = |path: &std::path::Path| std::fs::File::open(path).map_err(|e| e.to_string());
    let image = BootImage {
        kernel: open(&kit.kernel)?,
        initramfs: open(&kit.initramfs)?,
        memory: None,
        disks: Vec::new(),
    };
    let deadline = Instant::now() + PROBE_WAIT;
    let booted = tokio::time::timeout(PROBE_WAIT, engine.boot(&PROBE_SPEC, image)).await;
    let slow =
        || format!("it opens, but a guest on it was not up after {} s", PROBE_WAIT.as_secs());
    let mut machine = booted.map_err(|_| slow())?.map_err(|e| e.to_string())?;
    let greeted = match machine.channel() {
        Some(channel) => {
            let left = deadline.saturating_duration_since(Instant::now());
            tokio::select! {
                greeted = hello(channel, left) => greeted.map_err(|_| slow()),
                ended = machine.ended() => Err(format!("a guest on it ended: {}", ended.how)),
            }
        }
        None => Err("the engine gave no channel".to_owned()),
    };
    machine.stop().await;
    greeted
}

async fn hello(connection: tokio::net::UnixStream, patience: Duration) -> Result<(), ChannelError> {
    Channel::greet(connection).hello(patience).await.map(drop)
}
