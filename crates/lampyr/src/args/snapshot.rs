//! The arguments of everything that has to do with snapshots and forks.

use clap::{Args, Subcommand, value_parser};

use crate::core_api::limits::MOST_FORKS;

use super::ListArgs;

/// The commands under `snapshot`.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Build a snapshot as a file says: a VM, some steps in it, and what it is then
    Build(SnapshotBuildArgs),
    /// Save a running session, which goes on
    Create(SnapshotCreateArgs),
    /// List all snapshots
    List(ListArgs),
    /// Show what a snapshot is
    Inspect(SnapshotArgs),
    /// Remove a snapshot
    Rm(SnapshotRmArgs),
    /// Put a snapshot into a registry, with the root disk that it stands on
    Push(SnapshotPushArgs),
    /// Fetch a snapshot from a registry
    Pull(SnapshotPullArgs),
}

/// The arguments of `snapshot push`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotPushArgs {
    /// The snapshot
    pub(crate) name: String,
    /// Where to put it, such as localhost:5000/tools:1
    pub(crate) reference: String,
}

/// The arguments of `snapshot pull`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotPullArgs {
    /// Where it is, such as localhost:5000/tools:1
    pub(crate) reference: String,
    /// What to call it; one that has the name is replaced [default: the last word of the repository]
    pub(crate) name: Option<String>,
    /// Refuse a name that is taken
    #[arg(long)]
    pub(crate) keep: bool,
}

/// The arguments of `snapshot build`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotBuildArgs {
    /// The file: TOML or JSON, as docs/snapshot.schema.json has it
    pub(crate) file: String,
    /// Refuse a name that is taken
    #[arg(long)]
    pub(crate) keep: bool,
    /// Leave the VM running in which the steps were taken
    #[arg(long)]
    pub(crate) debug_builder: bool,
    /// Build even if it is there, made just so
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// How long each step may take [default: 1h]
    #[arg(long, value_name = "DURATION")]
    pub(crate) step_timeout: Option<String>,
}

/// The arguments of `snapshot create`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotCreateArgs {
    /// The session's id or name
    pub(crate) sid: String,
    /// What to call the snapshot; one that has the name is replaced
    pub(crate) name: String,
    /// Save it even if it holds secrets; their values are not saved
    #[arg(long)]
    pub(crate) with_secrets: bool,
    /// Refuse a name that is taken
    #[arg(long)]
    pub(crate) keep: bool,
    /// Note something about it
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
}

/// The arguments of `snapshot inspect`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// The snapshot
    pub(crate) name: String,
}

/// The arguments of `snapshot rm`.
#[derive(Debug, Args)]
pub(crate) struct SnapshotRmArgs {
    /// The snapshot
    pub(crate) name: String,
    /// Remove what was built on it, too
    #[arg(long)]
    pub(crate) force: bool,
}

/// The arguments of `fork`.
#[derive(Debug, Args)]
pub(crate) struct ForkArgs {
    /// The session's id or name
    pub(crate) sid: String,
    /// How many new sessions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=i64::from(MOST_FORKS)))]
    pub(crate) count: u32,
    /// Fork it even if it holds secrets; the forks have no values of them
    #[arg(long)]
    pub(crate) with_secrets: bool,
}

/// The arguments of `log`.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The session's id or name
    pub(crate) sid: String,
    /// Print JSON on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
}

/// The arguments of `undo`.
#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// The session's id or name
    pub(crate) sid: String,
    /// Back to what it was before this command, as `log` counts them [default: the last]
    #[arg(long, value_name = "K")]
    pub(crate) to: Option<u64>,
}

/// The arguments of `verify-fork`.
#[derive(Debug, Args)]
pub(crate) struct VerifyForkArgs {
    /// Print JSON on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
    /// Check this point alone
    #[arg(long, value_name = "N", value_parser = value_parser!(u8).range(1..=8))]
    pub(crate) only: Option<u8>,
}
