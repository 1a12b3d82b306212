//! The arguments of everything that has to do with network policies.

use clap::{Args, Subcommand};

/// The commands under `policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say in sentences what a file of rules allows
    Check(PolicyCheckArgs),
    /// Hold a running session to other rules; what they do not allow is closed
    Set(PolicySetArgs),
    /// Print the fewest rules that allow all that a session has reached
    Suggest(PolicySuggestArgs),
}

/// The arguments of `policy check`.
#[derive(Debug, Args)]
pub(crate) struct PolicyCheckArgs {
    /// The file
    pub(crate) file: String,
}

/// The arguments of `policy set`.
#[derive(Debug, Args)]
pub(crate) struct PolicySetArgs {
    /// The session's id or name
    pub(crate) sid: String,
    /// What the VM may reach: none, public or allow=RULE[,RULE…]
    #[arg(long, value_name = "NET", required_unless_present = "policy", conflicts_with = "policy")]
    pub(crate) net: Option<String>,
    /// What the VM may reach, as a file of rules
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<String>,
}

/// The arguments of `policy suggest`.
#[derive(Debug, Args)]
pub(crate) struct PolicySuggestArgs {
    /// The session's id or name
    pub(crate) sid: String,
}
