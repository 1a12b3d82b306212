//! `verify-fork`: what a fork must be, looked at from outside on real VMs.
//!
//! A session holds secrets, connections, files and a program that writes down
//! what it sees (`witness.py`); it is forked twice, and each of the eight
//! points is checked by what the three of them say. All of it happens in a
//! home of its own (`home.rs`), so that nothing of the user's is touched, and
//! nothing is left however it ends.

mod home;
mod killed;
mod misfit;
mod scene;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{Error, Host, RunError};

use home::Home;
use scene::Scene;

/// How long setting the scene may take: with a bake, and on a slow host.
const SETTING: Duration = Duration::from_mins(2);
/// How long one point may take.
const ONE: Duration = Duration::from_mins(1);

/// The names of the points, from the first to the eighth.
const POINTS: [&str; 8] = [
    "random_reseeded",
    "clocks_right",
    "identity_its_own",
    "secrets_refused",
    "connections_ended",
    "memory_and_disk_of_one_instant",
    "misfits_refused",
    "kills_survived",
];

/// What was found of one point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkCheck {
    /// Which one, from 1 to 8.
    pub point: u8,
    /// Its name.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// What was seen, in a sentence.
    pub detail: String,
}

/// The programs that it takes, each in the home that it is given.
pub struct ForkPrograms<'a> {
    /// Owns a session, as for [`crate::start_session`].
    pub owner: &'a dyn Fn(&Path) -> Command,
    /// Forks the session with this id.
    pub fork: &'a dyn Fn(&Path, &str) -> Command,
}

/// Why a point does not hold.
enum Wrong {
    /// This was seen.
    Seen(String),
    /// It could not be looked at.
    Unseen(String),
}

impl From<Error> for Wrong {
    fn from(e: Error) -> Self {
        Self::Unseen(e.to_string())
    }
}

impl From<RunError> for Wrong {
    fn from(e: RunError) -> Self {
        Self::Unseen(e.message)
    }
}

/// What was seen of a point that holds, or why it does not.
type Look = Result<String, Wrong>;

/// `seen` where it `holds`.
fn require(holds: bool, seen: impl FnOnce() -> String) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(Wrong::Seen(seen())) }
}

/// Forks a session and checks each point of what a fork must be; or only one.
///
/// # Errors
///
/// Where no session can be started and forked at all.
pub async fn verify_fork(
    host: &Host,
    only: Option<u8>,
    programs: ForkPrograms<'_>,
) -> Result<Vec<ForkCheck>, Error> {
    let slow = |_| Error::Agent(format!("no fork was there within {} s", SETTING.as_secs()));
    let home = tokio::time::timeout(SETTING, Home::make(host)).await.map_err(slow)??;
    let scene =
        tokio::time::timeout(SETTING, Scene::set(&home, &programs)).await.map_err(slow)??;
    let mut checks = Vec::new();
    for (number, name) in (1..).zip(POINTS) {
        if only.is_none_or(|only| only == number) {
            checks.push(check(&scene, number, name).await);
        }
    }
    scene.end().await;
    Ok(checks)
}

async fn check(scene: &Scene<'_>, point: u8, name: &'static str) -> ForkCheck {
    let looked = tokio::time::timeout(ONE, look(scene, point)).await;
    let (passed, detail) = match looked {
        Ok(Ok(seen)) => (true, seen),
        Ok(Err(Wrong::Seen(seen))) => (false, seen),
        Ok(Err(Wrong::Unseen(why))) => (false, format!("it could not be looked at: {why}")),
        Err(_) => (false, format!("it took longer than {} s", ONE.as_secs())),
    };
    ForkCheck { point, name, passed, detail }
}

async fn look(scene: &Scene<'_>, point: u8) -> Look {
    match point {
        1 => scene.random().await,
        2 => scene.clocks().await,
        3 => scene.identity().await,
        4 => scene.secrets().await,
        5 => scene.connections().await,
        6 => scene.one_instant().await,
        7 => misfit::look(scene).await,
        _ => killed::look(scene).await,
    }
}
