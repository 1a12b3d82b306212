//! What an image is called here: by a name of ours, or as a registry has it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lampyr_oci::{Digest, OciError, Reference};
use lampyr_store::{Part, Store, StoreError};
use lampyr_types::{BadName, Name};
use serde::{Deserialize, Serialize};

/// An image, as users call it.
///
/// A word is the name of an image that was made here. What has a `/`, a `:` or
/// an `@` in it is a reference to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageRef {
    /// One of this host's own.
    Name(Name),
    /// One of a registry's.
    Reference(Reference),
}

/// A text that calls no image.
#[derive(Debug, thiserror::Error)]
pub enum BadImageRef {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Not a reference.
    #[error(transparent)]
    Reference(#[from] OciError),
}

impl ImageRef {
    /// Where the image is kept. No name begins as the place of a reference
    /// does.
    pub(crate) fn dir(&self, store: &Store) -> Result<PathBuf, StoreError> {
        let images = store.dir(Part::Images)?;
        Ok(match self {
            Self::Name(name) => images.join(name.as_str()),
            Self::Reference(reference) => {
                let digest = Digest::of(reference.to_string().as_bytes());
                images.join(format!("@{}", &digest.hex()[..32]))
            }
        })
    }
}

impl FromStr for ImageRef {
    type Err = BadImageRef;

    fn from_str(text: &str) -> Result<Self, BadImageRef> {
        if Reference::is_plain(text) {
            Ok(Self::Reference(text.parse()?))
        } else {
            Ok(Self::Name(text.parse()?))
        }
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}

impl TryFrom<String> for ImageRef {
    type Error = BadImageRef;

    fn try_from(text: String) -> Result<Self, BadImageRef> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_names_and_the_rest_are_references() {
        for (given, whole) in [
            ("default", "default"),
            ("python:3.12", "docker.io/library/python:3.12"),
            ("localhost:5000/py", "localhost:5000/py:latest"),
        ] {
            let image: ImageRef = given.parse().unwrap();
            assert_eq!(image.to_string(), whole);
            assert_eq!(whole.parse::<ImageRef>().unwrap(), image);
        }
        for bad in ["", "Python", "a:b:c", "a b", "../x", "-x"] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad}");
        }
    }
}
