//! The arguments of everything that has to do with sessions.

use clap::{Args, Subcommand};

use crate::core_api::limits::MOST_CHECKPOINTS;

use super::MachineArgs;

/// The commands under `session`.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// Start a VM that stays, and print its id
    Start(Box<StartArgs>),
    /// End a session and remove it
    Stop(StopArgs),
    /// List all sessions, living and dead
    List(ListArgs),
}

/// The arguments of `session start`.
#[derive(Debug, Default, Args)]
pub(crate) struct StartArgs {
    /// The machine
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    /// A name to call it by
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// End it after this long without a command or a client; 0: never [default: 0]
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,
    /// Remember what it was before each of the last N commands, for `undo` [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(MOST_CHECKPOINTS)))]
    pub(crate) checkpoints: Option<u32>,
    /// Set an environment variable of every command in it
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
}

/// The arguments of `session stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The session's id or name
    pub(crate) sid: Option<String>,
    /// End all sessions
    #[arg(long)]
    pub(crate) all: bool,
    /// How long what runs in it may take to end [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) grace: Option<String>,
}

/// The arguments of `session list` and `ps`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON on a terminal too
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a job that was started before cannot be given any more.
const OF_A_NEW_COMMAND: [&str; 7] = ["command", "argv", "timeout", "env", "workdir", "user", "key"];

/// The arguments of `exec`.
#[derive(Debug, Default, Args)]
pub(crate) struct ExecArgs {
    /// The session's id or name
    pub(crate) sid: String,
    /// The command, which /bin/sh runs
    pub(crate) command: Option<String>,
    /// A program and its arguments, run without a shell
    #[arg(last = true, value_name = "PROGRAM")]
    pub(crate) argv: Vec<String>,
    /// How long the command may run; no limit with --pty and --detach [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Set an environment variable of the command
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// The directory the command starts in
    #[arg(long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The user the command runs as, by name or number [default: root]
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Give the command a terminal
    #[arg(long, conflicts_with_all = ["detach", "attach", "wait", "key"])]
    pub(crate) pty: bool,
    /// Let the command run on by itself and print its job
    #[arg(long, conflicts_with_all = ["attach", "wait"])]
    pub(crate) detach: bool,
    /// Follow a job from its beginning to its end; signals go to it
    #[arg(long, value_name = "JOB", conflicts_with_all = OF_A_NEW_COMMAND, conflicts_with = "wait")]
    pub(crate) attach: Option<String>,
    /// Wait for a job's end; signals end the waiting alone
    #[arg(long, value_name = "JOB", conflicts_with_all = OF_A_NEW_COMMAND)]
    pub(crate) wait: Option<String>,
    /// Run it once however often it is asked for under this key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// How much of each output stream the JSON envelope keeps [default: 64MB]
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_output: Option<String>,
}

/// The arguments of `cp`.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// What to copy: a path here, or one in a session, as in `builder:/src`
    pub(crate) source: String,
    /// Where to: the same; one of the two is in a session
    pub(crate) target: String,
}
