//! The arguments of everything that has to do with pools.

use clap::{Args, Subcommand, value_parser};

use super::{ListArgs, RunArgs, SizeArgs};

/// More VMs than this at once are a mistake.
const MOST: i64 = 1000;

/// The commands under `pool`.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Run a command many times, each in a VM of its own that is warm already
    ///
    /// Each run is told by one line of JSON as soon as it has ended. The exit
    /// status is 0 if all commands ran, whatever their exit codes, else 1.
    Run(Box<PoolRunArgs>),
    /// Hold warm VMs ready for `lampyr run`, and print the pool's id
    Start(PoolStartArgs),
    /// End a pool; a VM that a run has taken lives on until the run ends
    Stop(PoolStopArgs),
    /// List all pools
    List(ListArgs),
}

/// The arguments of `pool run`.
#[derive(Debug, Default, Args)]
pub(crate) struct PoolRunArgs {
    /// The command and its VM
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// How many VMs are made ready ahead of their runs [default: 4]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST))]
    pub(crate) size: Option<u32>,
    /// How many runs in all [default: 1]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: Option<u32>,
    /// How many runs at once [default: as many as --size]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST))]
    pub(crate) concurrency: Option<u32>,
}

/// The arguments of `pool start`.
#[derive(Debug, Args)]
pub(crate) struct PoolStartArgs {
    /// How many VMs are held ready
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=MOST))]
    pub(crate) size: u32,
    /// End it after this long without a run that took a VM; 0: never [default: 0]
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,
    /// The image to start from [default: default]
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// The snapshot to launch from
    #[arg(long, value_name = "NAME", conflicts_with = "image")]
    pub(crate) snapshot: Option<String>,
    /// How much of each it has
    #[command(flatten)]
    pub(crate) machine: SizeArgs,
}

/// The arguments of `pool stop`.
#[derive(Debug, Args)]
pub(crate) struct PoolStopArgs {
    /// The pool's id
    pub(crate) id: Option<String>,
    /// End all pools
    #[arg(long)]
    pub(crate) all: bool,
}
