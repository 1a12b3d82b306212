//! Names of hosts, in one spelling.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name that there can be.
const MAX_NAME: usize = 253;
/// The longest part of one.
const MAX_LABEL: usize = 63;

/// A host's name: lower case, no dot at its end. Copies share their text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Arc<str>);

/// Some text is the name of no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the name of a host")]
pub struct NoDomain;

impl Domain {
    /// Reads a name; on an error says at which byte it goes wrong.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let plain = text.strip_suffix('.').unwrap_or(text);
        let mut at = 0;
        for label in plain.split('.') {
            let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if let Some(bad) = label.bytes().position(|b| !good(b)) {
                return Err(at + bad);
            }
            if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
                return Err(at);
            }
            if label.len() > MAX_LABEL {
                return Err(at + MAX_LABEL);
            }
            at += label.len() + 1;
        }
        if plain.len() > MAX_NAME {
            return Err(MAX_NAME);
        }
        // What looks like an address is one, however odd.
        let numeric =
            plain.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if numeric { Err(0) } else { Ok(Self(plain.to_ascii_lowercase().into())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many parts it has.
    pub fn labels(&self) -> usize {
        self.0.split('.').count()
    }

    /// Whether it is below `other`, and not that itself.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl TryFrom<String> for Domain {
    type Error = NoDomain;

    fn try_from(text: String) -> Result<Self, NoDomain> {
        Self::parse(&text).map_err(|_| NoDomain)
    }
}

impl From<Domain> for String {
    fn from(name: Domain) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_a_bad_one_pointed_at() {
        assert_eq!(Domain::parse("API.Example.com.").unwrap().as_str(), "api.example.com");
        assert_eq!(Domain::parse("_a.x").unwrap().labels(), 2);
        for (text, at) in [("", 0), ("a..b", 2), ("a b", 1), ("-a", 0), ("a.b-", 2), ("1.2", 0)] {
            assert_eq!(Domain::parse(text), Err(at), "{text}");
        }
        assert_eq!(Domain::parse(&"a".repeat(64)), Err(63));
    }

    #[test]
    fn below_is_a_matter_of_whole_labels() {
        let name = |text| Domain::parse(text).unwrap();
        assert!(name("a.example.com").is_below(&name("example.com")));
        assert!(!name("example.com").is_below(&name("example.com")));
        assert!(!name("badexample.com").is_below(&name("example.com")));
    }
}
