//! The arguments of everything that has to do with private networks.

use clap::{Args, Subcommand};

use super::ListArgs;

/// The commands under `network`.
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Start the sessions of a manifest on one private network: all, or none
    Run(NetworkRunArgs),
    /// End all sessions on a private network
    Stop(NetworkStopArgs),
    /// List all private networks and who is on them
    List(ListArgs),
}

/// The arguments of `network run`.
#[derive(Debug, Args)]
pub(crate) struct NetworkRunArgs {
    /// A TOML or JSON file that says which sessions
    pub(crate) manifest: String,
    /// What to call the network [default: a name that nothing has]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// The arguments of `network stop`.
#[derive(Debug, Args)]
pub(crate) struct NetworkStopArgs {
    /// The network's name
    pub(crate) name: String,
    /// How long what runs on it may take to end [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) grace: Option<String>,
}
