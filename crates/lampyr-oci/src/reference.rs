//! What images are called, by Docker's rules.

mod grammar;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Digest, OciError};

/// Where images are if nobody says where.
pub(crate) const HUB: &str = "docker.io";

/// A registry, a repository in it, and a tag or a digest:
/// `docker.io/library/debian:12`.
///
/// What is left out is filled in: the registry is Docker's, a repository there
/// without an owner belongs to `library`, the tag is `latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry's host and port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if it has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if it has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository, by digest.
    pub(crate) fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What a registry is asked for: a digest says more than a tag.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Whether a name is so plainly a reference that it could be nothing else.
    pub fn is_plain(text: &str) -> bool {
        text.contains(['/', ':', '@'])
    }
}

impl FromStr for Reference {
    type Err = OciError;

    fn from_str(text: &str) -> Result<Self, OciError> {
        let bad =
            |why: String| OciError::Reference { given: text.chars().take(200).collect(), why };
        let parts = grammar::parts(text).map_err(|why| bad(why.to_owned()))?;
        let digest = parts.digest.map(str::parse).transpose();
        let digest = digest.map_err(|e: crate::digest::BadDigest| bad(e.to_string()))?;
        let unsaid = digest.is_none().then_some("latest");
        Ok(Self {
            registry: parts.registry.to_owned(),
            repository: parts.repository,
            tag: parts.tag.or(unsaid).map(str::to_owned),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = OciError;

    fn try_from(text: String) -> Result<Self, OciError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

/// The host that answers for a registry.
pub(crate) fn host(registry: &str) -> &str {
    if registry == HUB { "registry-1.docker.io" } else { registry }
}

/// The name under which Docker keeps a registry's credentials.
pub(crate) fn credentials_key(registry: &str) -> &str {
    if registry == HUB { "https://index.docker.io/v1/" } else { registry }
}

/// Whether a registry is on this very host.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let name = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.rsplit_once(':').map_or(registry, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_filled_in() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (given, whole) in [
            ("python:3.12", "docker.io/library/python:3.12"),
            ("debian", "docker.io/library/debian:latest"),
            ("me/tool", "docker.io/me/tool:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/py:3", "localhost:5000/py:3"),
            ("index.docker.io/debian:12", "docker.io/library/debian:12"),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c:latest"),
            (&format!("x@{digest}"), &format!("docker.io/library/x@{digest}")),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!(reference.to_string(), whole);
            assert_eq!(whole.parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let short = format!("x@sha256:{}", "0".repeat(32));
        for bad in
            ["", "A", "x:", "x@", ":x", "x:a b", "x/../y", "http://x/y", "x@sha512:00", &short]
        {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["docker.io", "localhost.example.com", "10.0.0.1:5000", "[fe80::1]:5000"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
