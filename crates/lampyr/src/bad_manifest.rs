//! Everything that can be wrong with a manifest, in words.

use crate::bad_input::BadInput;
use crate::core_api::{BadFile, MAX_PEERS};

/// How alike two words are where one may stand for the other.
const ALIKE: f64 = 0.7;

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
            Self::File(file) => meant(&file.to_string()).unwrap_or_else(|| example().to_owned()),
            Self::Session { source, .. } => source.hint(),
            Self::Sessions(_) | Self::Twice(_) => example().to_owned(),
        }
    }
}

/// The key that was meant, as far as the complaint about an unknown one tells:
/// it has that key in back-quotes, and then all that there are.
fn meant(complaint: &str) -> Option<String> {
    let mut quoted = complaint.strip_prefix("line ")?.split('`').skip(1).step_by(2);
    let wrong = quoted.next().filter(|_| complaint.contains("unknown field"))?;
    let alike = |known: &&str| strsim::jaro_winkler(wrong, known);
    let nearest = quoted.max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&nearest) >= ALIKE).then(|| format!("did you mean '{nearest}'?"))
}

#[cfg(test)]
mod tests {
    use super::meant;

    #[test]
    fn a_key_that_was_meant_is_named() {
        let all = "expected one of `name`, `image`, `volumes`";
        let said = |wrong| meant(&format!("line 3: unknown field `{wrong}`, {all}"));
        assert_eq!(said("imgae").as_deref(), Some("did you mean 'image'?"));
        assert_eq!(said("volume").as_deref(), Some("did you mean 'volumes'?"));
        assert_eq!(said("zzz"), None);
        assert_eq!(meant("line 1: missing field `sessions`"), None);
    }
}
