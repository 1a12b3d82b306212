//! Every use-case above the engine, on the fake one: the real agent runs as a
//! process of this host, so these commands are harmless and stay in temporary
//! directories.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "fake/doctor.rs"]
mod doctor;
#[path = "fake/files.rs"]
mod files;
#[path = "fake/guest.rs"]
mod guest;
#[path = "fake/hostile.rs"]
mod hostile;
#[path = "fake/images.rs"]
mod images;
#[path = "fake/life.rs"]
mod life;
#[path = "fake/pools.rs"]
mod pools;
#[path = "fake/runs.rs"]
mod runs;
#[path = "fake/sessions.rs"]
mod sessions;
#[path = "fake/snapshots.rs"]
mod snapshots;
#[path = "fake/world.rs"]
mod world;
