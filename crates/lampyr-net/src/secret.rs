//! Values that a guest may use and never sees.

use std::fmt;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::carriage;
use crate::domain::Domain;
use crate::entropy;

/// The header that a secret goes into where nobody says another.
pub const USUAL_HEADER: &str = "authorization";
/// The shortest value, in bytes: a shorter one is in too much that is no secret.
const LEAST: usize = 8;
/// The longest value, in bytes.
const MOST: usize = 4096;
/// How a placeholder begins.
const MARK: &str = "lampyr-secret-";
/// The shortest placeholder: after the mark nobody guesses the rest.
const LEAST_PLACEHOLDER: usize = 48;
/// A value, and the one place where it goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    name: String,
    host: Domain,
    header: String,
    placeholder: String,
    value: Value,
}

/// Text that is wiped when it is let go, and that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Value(#[serde(with = "wiped")] Zeroizing<String>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

mod wiped {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        value: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

/// Why something is no secret. It never says the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Not what a variable is called. It is not repeated: it could be a value.
    #[error("it is called as no environment variable could be")]
    Name,
    /// What no header is called. It is not repeated, either.
    #[error("it is for a header, and what is given as one is no header's name")]
    NoHeader,
    /// A header that cannot carry a value.
    #[error("'{0}' is not a header that can carry a secret")]
    Header(String),
    /// Too short to be told from other text, or too long for a header.
    #[error("the value of {0} is not {LEAST} to {MOST} bytes long")]
    Length(String),
    /// A header cannot hold it.
    #[error("the value of {0} has characters that a header cannot hold")]
    Characters(String),
}

impl Secret {
    /// The secret `name`, which goes into `header` of requests to `host`.
    pub fn new(
        name: &str,
        host: Domain,
        header: &str,
        value: Zeroizing<String>,
    ) -> Result<Self, BadSecret> {
        let header = checked(name, header)?;
        if !(LEAST..=MOST).contains(&value.len()) {
            return Err(BadSecret::Length(name.to_owned()));
        }
        if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) || value.trim() != value.as_str() {
            return Err(BadSecret::Characters(name.to_owned()));
        }
        let placeholder = placeholder(value.len());
        Ok(Self { name: name.to_owned(), host, header, placeholder, value: Value(value) })
    }

    /// Whether there can be a secret `name` that goes into `header`, whatever
    /// its value is.
    pub fn check(name: &str, header: &str) -> Result<(), BadSecret> {
        checked(name, header).map(drop)
    }

    /// The same secret for another place.
    pub fn also(&self, host: Domain, header: &str) -> Result<Self, BadSecret> {
        Ok(Self { host, header: known_header(header)?, ..self.clone() })
    }

    /// The variable that holds the placeholder in the guest.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host that it is for.
    pub fn host(&self) -> &Domain {
        &self.host
    }

    /// The header that it goes into, in lower case.
    pub fn header(&self) -> &str {
        &self.header
    }

    /// What stands for the value in the guest.
    pub fn placeholder(&self) -> &str {
        &self.placeholder
    }

    /// The value. It leaves this crate in nothing but a request to its host.
    pub(crate) fn value(&self) -> &str {
        &self.value.0
    }
}

/// The header as it is known, where a secret of this name can go into it.
fn checked(name: &str, header: &str) -> Result<String, BadSecret> {
    if is_variable(name) { known_header(header) } else { Err(BadSecret::Name) }
}

fn known_header(given: &str) -> Result<String, BadSecret> {
    let header: HeaderName = given.parse().map_err(|_| BadSecret::NoHeader)?;
    if given.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadSecret::NoHeader);
    }
    if carriage::is_of_it(&header) {
        Err(BadSecret::Header(given.to_owned()))
    } else {
        Ok(header.as_str().to_owned())
    }
}

fn is_variable(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    plain && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// About as long as the value, so that who checks a length is content, and not
/// as long, so that the length stays unsaid.
fn placeholder(length: usize) -> String {
    let length = length.next_multiple_of(16).max(LEAST_PLACEHOLDER);
    let mut text = MARK.to_owned();
    while text.len() < length {
        let bytes: [u8; 16] = entropy::bytes();
        text.extend(bytes.iter().map(|b| format!("{b:02x}")));
    }
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, header: &str, value: &str) -> Result<Secret, BadSecret> {
        let host = Domain::parse("api.example.com").unwrap();
        Secret::new(name, host, header, Zeroizing::new(value.to_owned()))
    }

    #[test]
    fn a_placeholder_is_about_as_long_and_never_the_same() {
        let one = secret("TOKEN", "Authorization", "12345678").unwrap();
        let other = secret("TOKEN", "authorization", &"x".repeat(100)).unwrap();
        assert_eq!((one.placeholder().len(), other.placeholder().len()), (48, 112));
        assert!(one.placeholder().starts_with(MARK));
        assert_ne!(one.placeholder(), secret("TOKEN", "x", "12345678").unwrap().placeholder());
        assert_eq!(one.also(one.host.clone(), "X-Key").unwrap().placeholder(), one.placeholder());
    }

    #[test]
    fn no_debug_output_has_the_value() {
        let one = secret("TOKEN", "x-key", "hunter22222").unwrap();
        assert!(!format!("{one:?}").contains("hunter"), "{one:?}");
        let again: Secret = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        assert_eq!(again, one);
    }

    #[test]
    fn what_no_header_can_carry_is_refused() {
        let good = "0123456789";
        assert!(matches!(secret("1A", "x", good), Err(BadSecret::Name)));
        assert!(matches!(secret("A-B", "x", good), Err(BadSecret::Name)));
        for header in ["a b", "", "8443"] {
            assert_eq!(secret("A", header, good), Err(BadSecret::NoHeader), "{header}");
        }
        let names = ["Host", "content-length", "Sec-WebSocket-Key"];
        let dropped = carriage::OF_ONE_HOP.into_iter().chain(carriage::OF_PARTS);
        let dropped: Vec<_> = dropped.map(|name| name.to_string()).collect();
        for header in names.into_iter().chain(dropped.iter().map(String::as_str)) {
            assert!(matches!(secret("A", header, good), Err(BadSecret::Header(_))), "{header}");
        }
        assert!(matches!(secret("A", "x", "short"), Err(BadSecret::Length(_))));
        for value in ["two\nlines here", " 0123456789", "0123456789é"] {
            assert!(matches!(secret("A", "x", value), Err(BadSecret::Characters(_))), "{value}");
        }
    }
}
