//! Killing whoever takes part in a fork, at one moment after another.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lampyr_store::{Lock, Part};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Error, SessionState, clean, sessions, stop_session};

use super::scene::Scene;
use super::{Look, Wrong, require};

/// How many forks are asked for at once: enough to be killed between two.
const FORKS: usize = 2;
/// When a fork is killed that was just asked for, in milliseconds.
const MOMENTS: [u64; 8] = [5, 90, 250, 400, 600, 900, 1400, 2000];
/// How long it may take until `clean` has found all: what was only just made, it
/// leaves alone for a while.
const SETTLING: Duration = Duration::from_secs(25);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn look(scene: &Scene<'_>) -> Look {
    let before = all_of_it(scene);
    let mut whole = HashSet::new();
    for moment in MOMENTS {
        kill_forker(scene.forker(FORKS), Duration::from_millis(moment)).await?;
        whole.extend(after(scene, &before).await?);
    }
    kill_owner(scene).await?;
    after(scene, &before).await?;
    let (kills, whole) = (MOMENTS.len() + 1, whole.len());
    Ok(format!("{kills} kills: {whole} forks were there whole, `clean` found the rest"))
}

/// The sandboxes, the templates and the half-made things that there are.
fn all_of_it(scene: &Scene<'_>) -> BTreeSet<PathBuf> {
    let parts = [Part::Sandboxes, Part::Templates, Part::Tmp];
    parts.into_iter().flat_map(|part| scene.home.entries(part)).collect()
}

/// Kills a program that forks the parent, a moment after its start.
async fn kill_forker(mut program: Command, moment: Duration) -> Result<(), Error> {
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut forker = tokio::process::Command::from(program);
    let mut forker = forker.kill_on_drop(true).spawn().map_err(Error::Owner)?;
    tokio::select! {
        () = tokio::time::sleep(moment) => {}
        _ = forker.wait() => {}
    }
    forker.kill().await.map_err(Error::Owner)
}

/// Kills the owner of a fork that runs.
async fn kill_owner(scene: &Scene<'_>) -> Result<(), Wrong> {
    let forks = scene.fork(1).await?;
    for fork in &forks {
        let pid = i32::try_from(fork.client.record()?.pid).ok().and_then(Pid::from_raw);
        let killed = pid.map(|pid| kill_process(pid, Signal::KILL));
        require(killed == Some(Ok(())), || "the owner of a fork was gone already".into())?;
    }
    Ok(())
}

/// Requires the old state or the new one, and goes back to the old one. Returns
/// the new sessions that were there, each whole.
async fn after(scene: &Scene<'_>, before: &BTreeSet<PathBuf>) -> Result<HashSet<String>, Wrong> {
    let (home, begun) = (scene.home.path(), Instant::now());
    let new = none_or_all(scene).await?;
    loop {
        clean(home, None, false)?;
        let now = all_of_it(scene);
        if now == *before {
            break;
        }
        let changed: Vec<_> = now.symmetric_difference(before).collect();
        let left = || format!("`clean` leaves this, or takes it: {changed:?}");
        require(begun.elapsed() < SETTLING, left)?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let alive = scene.parent.sh("echo alive").await?;
    require(alive == "alive\n", || "the parent does not answer".into())?;
    Ok(new)
}

/// Waits until all forks run, or none does; they are stopped. Returns them.
async fn none_or_all(scene: &Scene<'_>) -> Result<HashSet<String>, Wrong> {
    let begun = Instant::now();
    loop {
        let new = &settled(scene).await? - &scene.sids();
        if new.is_empty() || new.len() == FORKS {
            for sid in &new {
                stop_session(scene.home.path(), sid, Duration::ZERO).await?;
            }
            return Ok(new);
        }
        let some = || format!("{} of {FORKS} forks are left", new.len());
        require(begun.elapsed() < SETTLING, some)?;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits until each sandbox is a session that runs, or nobody's. Returns those
/// that run.
async fn settled(scene: &Scene<'_>) -> Result<HashSet<String>, Error> {
    loop {
        let all = sessions(scene.home.path())?.into_iter();
        let running = all.filter(|(_, state)| *state == SessionState::Running);
        let running: HashSet<_> = running.map(|(record, _)| record.sid.to_string()).collect();
        let in_the_making = |dir: &PathBuf| {
            let held = matches!(Lock::try_take(&dir.join("lock")), Ok(None));
            held && !dir.file_name().is_some_and(|sid| running.contains(&*sid.to_string_lossy()))
        };
        if !scene.home.entries(Part::Sandboxes).iter().any(in_the_making) {
            return Ok(running);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
