//! Everything that can be wrong with a `--secret`, in words. None of them has
//! anything of a value in it, nor of what was typed where one could be: a name
//! is repeated where a variable is called so, or where it has another source.

use std::io;

use crate::core_api::BadSecret;

/// A secret that cannot be handed over; nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSecretInput {
    /// Not of the form that it must have.
    #[error("invalid --secret: it is not NAME[=file:PATH or =cmd:COMMAND]@HOST[:HEADER]")]
    Form,
    /// Not a host's name.
    #[error("--secret {name}: '{host}' is not the name of a host")]
    Host {
        /// The secret.
        name: String,
        /// What is no host.
        host: String,
    },
    /// The same of one that may have been typed as a value.
    #[error("invalid --secret: what is behind its last '@' is not the name of a host")]
    NoHost,
    /// It cannot be one.
    #[error("--secret: {0}")]
    Value(#[from] BadSecret),
    /// Its value is something else.
    #[error("--secret {0}: its value is not text")]
    NotText(String),
    /// Nobody has set the variable.
    #[error("--secret {0}: there is no such variable in the environment, or it is not text")]
    Unset(String),
    /// Its file cannot be read.
    #[error("--secret {name}: cannot read its file: {source}")]
    File {
        /// The secret.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// Its command did not print it.
    #[error("--secret {name}: its command {why}")]
    Command {
        /// The secret.
        name: String,
        /// What became of it.
        why: String,
    },
    /// One name, two sources.
    #[error("--secret {0}: one name cannot have two sources")]
    TwoSources(String),
    /// One name, a variable and a secret.
    #[error("'{0}' is given both as --env and as --secret")]
    AlsoVariable(String),
    /// A host that nothing could reach.
    #[error("--secret {name}: no rule lets the VM reach {host}")]
    Shut {
        /// The secret.
        name: String,
        /// The host.
        host: String,
        /// Whether there is a network at all.
        net: bool,
    },
}

impl BadSecretInput {
    /// What the user can do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Shut { host, net: false, .. } => format!("add --net allow={host}"),
            Self::Shut { host, .. } => format!("add {host} to what --net or --policy allows"),
            Self::Unset(_) => "set it, or say where it is: --secret NAME=file:PATH@HOST".to_owned(),
            Self::Value(BadSecret::Header(_) | BadSecret::NoHeader) => {
                "for example: --secret API_KEY@api.example.com:x-api-key".to_owned()
            }
            Self::AlsoVariable(_) => "what the command is to see is one of the two".to_owned(),
            _ => "for example: --secret API_KEY@api.example.com".to_owned(),
        }
    }
}
