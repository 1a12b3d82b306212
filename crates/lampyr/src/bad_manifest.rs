//! Everything that can be wrong with a manifest, in words.

use crate::bad_input::{BadInput, did_you_mean};
use crate::core_api::{BadFile, MAX_PEERS};

/// Why a file is no manifest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadManifest {
    /// Not TOML, or not JSON, of this shape.
    #[error(transparent)]
    File(#[from] BadFile),
    /// No session, or more than a network has room for.
    #[error("there are {0} sessions: a network has 1 to {MAX_PEERS}")]
    Sessions(usize),
    /// Two of one name.
    #[error("two sessions have the name '{0}'")]
    Twice(String),
    /// A variable without a name, or with a name that none can have.
    #[error("session '{name}': '{key}' is no name of a variable")]
    Variable {
        /// The session.
        name: String,
        /// What is no name.
        key: String,
    },
    /// A session that cannot be.
    #[error("session '{name}': {source}")]
    Session {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: Box<BadInput>,
    },
}

impl BadManifest {
    /// What the user can do.
    pub(crate) fn hint(&self) -> String {
        let example = || "for example: {\"sessions\": [{\"name\": \"db\"}, {\"name\": \"web\"}]}";
        match self {
            Self::File(file) => {
                file.meant().map_or_else(|| example().to_owned(), |word| did_you_mean(&word))
            }
            Self::Session { source, .. } => source.hint(),
            Self::Variable { .. } => "for example: \"env\": {\"GREETING\": \"hello\"}".to_owned(),
            Self::Sessions(_) | Self::Twice(_) => example().to_owned(),
        }
    }
}
