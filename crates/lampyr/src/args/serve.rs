//! The arguments of `serve`.

use clap::Args;

/// The arguments of `serve`.
#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Listen on a port: of 127.0.0.1, unless another address is given
    #[arg(long, value_name = "[ADDRESS:]PORT", conflicts_with = "socket")]
    pub(crate) listen: Option<String>,
    /// Listen on a Unix socket, which this user alone can connect to
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<String>,
    /// End with the process that started it, or with standard input; listens on
    /// a private socket where nothing else is said
    #[arg(long)]
    pub(crate) parent: bool,
    /// Ask for no token; for 127.0.0.1 alone
    #[arg(long, conflicts_with = "socket")]
    pub(crate) no_auth: bool,
}
