//! The command line as it is typed: nothing is judged here, only told apart.

mod images;
mod network;
mod policy;
mod pool;
mod serve;
mod session;
mod snapshot;
mod volume;

use clap::{Args, Parser, Subcommand};

use crate::env_vars;

pub(crate) use images::{
    CreateArgs, ImageArgs, ImagesCommand, ImportArgs, ListImagesArgs, LoadArgs, PruneArgs,
    PushArgs, SaveArgs,
};
pub(crate) use network::{NetworkCommand, NetworkRunArgs, NetworkStopArgs};
pub(crate) use policy::{PolicyCommand, PolicySetArgs};
pub(crate) use pool::{PoolCommand, PoolRunArgs, PoolStartArgs, PoolStopArgs};
pub(crate) use serve::ServeArgs;
pub(crate) use session::{CpArgs, ExecArgs, ListArgs, SessionCommand, StartArgs, StopArgs};
pub(crate) use snapshot::{
    ForkArgs, LogArgs, SnapshotArgs, SnapshotBuildArgs, SnapshotCommand, SnapshotCreateArgs,
    SnapshotPullArgs, SnapshotPushArgs, SnapshotRmArgs, UndoArgs, VerifyForkArgs,
};
pub(crate) use volume::{VolumeCommand, VolumeCreateArgs};

/// Run commands in sealed microVMs
#[derive(Debug, Parser)]
#[command(name = "lampyr", version, after_long_help = env_vars::help())]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one command in a VM of its own that leaves nothing behind
    Run(Box<RunArgs>),
    /// Start, stop and list VMs that stay
    #[command(subcommand)]
    Session(SessionCommand),
    /// Run a command in a session
    Exec(Box<ExecArgs>),
    /// Copy files between this host and a session
    Cp(CpArgs),
    /// Show what sessions are doing
    Ps(ListArgs),
    /// Save running VMs, and list and remove what was saved
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Start more sessions that are what a running one is now
    Fork(ForkArgs),
    /// Check on this host that a fork is what it must be
    VerifyFork(VerifyForkArgs),
    /// Show what a session can be taken back to
    Log(LogArgs),
    /// Take a session back to what it was before a command
    Undo(UndoArgs),
    /// Fetch, list and remove images
    #[command(subcommand)]
    Images(ImagesCommand),
    /// Be the network of a VM, for the process that owns it.
    #[command(hide = true)]
    VmNetwork,
    /// Own a session that `session start` has asked for.
    #[command(hide = true)]
    SessionOwner,
    /// Make, list and remove directories that outlive the VMs they are in
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Run a command many times, or hold warm VMs ready for `run`
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Keep a pool that `pool start` has asked for.
    #[command(hide = true)]
    PoolKeeper,
    /// Own a VM that a pool's keeper has asked for.
    #[command(hide = true)]
    PoolMember,
    /// Start, stop and list VMs that reach each other
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Explain a network policy, change a session's, or ask what it would need
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Serve the HTTP API
    Serve(ServeArgs),
    /// Check what this host can do and what is in the way
    Doctor(DoctorArgs),
    /// Remove what processes that died have left
    Clean(CleanArgs),
    /// Measure this host and print the table of speeds
    Bench(BenchArgs),
    /// Print the completions for a shell
    Completions(CompletionsArgs),
}

/// The arguments of `run`.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// The command, which /bin/sh runs; the image's own where there is none
    pub(crate) command: Option<String>,
    /// A program and its arguments, run without a shell
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) argv: Vec<String>,
    /// The machine
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// How long the command may run, without the boot [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Set an environment variable of the command
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Copy a file or directory into the VM before the command
    #[arg(long, value_name = "LOCAL:REMOTE")]
    pub(crate) copy: Vec<String>,
    /// Copy a file or directory out of the VM after the command
    #[arg(long, value_name = "REMOTE:LOCAL")]
    pub(crate) download: Vec<String>,
    /// The directory the command starts in
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// How much of each output stream the JSON envelope keeps [default: 64MB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_output: Option<String>,
    /// Known only to be refused in words.
    #[arg(long, hide = true)]
    pub(crate) pty: bool,
}

/// What a VM is made of.
#[derive(Debug, Default, Args)]
pub(crate) struct MachineArgs {
    /// The image to start from: a name, or a registry's [default: default]
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// The snapshot to launch from
    #[arg(long, value_name = "NAME", conflicts_with = "image")]
    pub(crate) snapshot: Option<String>,
    /// Let a port of 127.0.0.1 here lead to a port of the VM
    #[arg(long, value_name = "HOST:GUEST")]
    pub(crate) forward: Vec<String>,
    /// Let the VM see a directory of this host
    #[arg(long, value_name = "HOST:GUEST[:ro]")]
    pub(crate) mount: Vec<String>,
    /// Let the VM see a volume, or a directory of this host
    #[arg(long, value_name = "NAME_OR_PATH:GUEST[:ro]")]
    pub(crate) volume: Vec<String>,
    /// What the VM may reach: none, public, record or allow=RULE[,RULE…] [default: none]
    #[arg(long, value_name = "NET", conflicts_with = "policy")]
    pub(crate) net: Option<String>,
    /// What the VM may reach, as a file of rules
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<String>,
    /// Let the VM and all others on the network of this name reach each other
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// Put a value of this host's into requests to a host; the VM sees a placeholder
    #[arg(long, value_name = "NAME[=SOURCE]@HOST[:HEADER]")]
    pub(crate) secret: Vec<String>,
    /// The most bytes a second over the network, each way [default: no limit]
    #[arg(long, value_name = "SIZE")]
    pub(crate) net_rate: Option<String>,
    /// How much of each it has
    #[command(flatten)]
    pub(crate) size: SizeArgs,
}

/// How large a VM is.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct SizeArgs {
    /// Memory of the VM [default: 1GB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Processors of the VM [default: 2, or as many as the host has]
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<String>,
    /// Size of the VM's disk [default: 8GB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk_size: Option<String>,
}

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print JSON on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
    /// Put right what can be put right without you
    #[arg(long)]
    pub(crate) fix: bool,
}

/// The arguments of `clean`.
#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// Say what would be removed and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// The arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Print JSON on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
    /// How often to launch; slower things are measured less often
    #[arg(short, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub(crate) n: u32,
}
