//! What a sandbox starts as.

use std::fmt;

use lampyr_image::ImageRef;
use lampyr_types::{Name, SandboxId};
use serde::{Deserialize, Serialize};

/// What a sandbox starts as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A machine of this image, just booted.
    Image(ImageRef),
    /// The machine that was saved under this name.
    Snapshot(Name),
    /// A copy of a machine that ran a moment ago.
    Fork(SandboxId),
}

impl Origin {
    /// The image that it names, if it is one.
    pub fn image(&self) -> Option<&ImageRef> {
        match self {
            Self::Image(image) => Some(image),
            Self::Snapshot(_) | Self::Fork(_) => None,
        }
    }

    /// The snapshot that it names, if it is one.
    pub fn snapshot(&self) -> Option<&Name> {
        match self {
            Self::Snapshot(name) => Some(name),
            Self::Image(_) | Self::Fork(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(image) => image.fmt(f),
            Self::Snapshot(name) => write!(f, "snapshot {name}"),
            Self::Fork(id) => write!(f, "fork {id}"),
        }
    }
}
