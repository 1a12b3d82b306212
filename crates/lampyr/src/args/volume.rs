//! The arguments of everything that has to do with volumes.

use clap::{Args, Subcommand};

use super::ListArgs;

/// The commands under `volume`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make an empty volume
    Create(VolumeCreateArgs),
    /// List all volumes
    List(ListArgs),
    /// Show what a volume is and how much is in it
    Inspect(VolumeNameArgs),
    /// Remove a volume and everything in it
    Rm(VolumeNameArgs),
}

/// The arguments of `volume create`.
#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArgs {
    /// What to call it
    pub(crate) name: String,
    /// The most that may be in it [default: what the disk holds]
    #[arg(long, value_name = "SIZE")]
    pub(crate) quota: Option<String>,
    /// Note something about it
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
}

/// The name of a volume.
#[derive(Debug, Args)]
pub(crate) struct VolumeNameArgs {
    /// The volume
    pub(crate) name: String,
}
