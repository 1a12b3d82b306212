//! What the commands on volumes are told.

use std::collections::BTreeMap;

use lampyr_types::{Name, Size};

use crate::args::VolumeCreateArgs;
use crate::bad_input::{BadInput, BadValue};
use crate::core_api::limits;

use super::shown;

/// A volume to make.
pub(crate) struct NewVolume {
    /// Its name.
    pub(crate) name: Name,
    /// The most that may be in it.
    pub(crate) quota: Option<Size>,
    /// What is noted about it.
    pub(crate) labels: BTreeMap<String, String>,
}

impl NewVolume {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &VolumeCreateArgs) -> Result<Self, BadInput> {
        Ok(Self {
            name: volume_name(&args.name)?,
            quota: args.quota.as_deref().map(quota).transpose()?,
            labels: args.label.iter().map(|given| label(given)).collect::<Result<_, _>>()?,
        })
    }
}

/// The name of a volume.
pub(crate) fn volume_name(given: &str) -> Result<Name, BadInput> {
    given.parse().map_err(BadInput::Name)
}

fn quota(given: &str) -> Result<Size, BadInput> {
    let bad = |reason| BadInput::Flag { flag: "--quota", reason, example: "2GB" };
    let quota: Size = given.parse().map_err(|e| bad(BadValue::Quantity(e)))?;
    limits::quota(quota).map_err(|e| bad(e.into()))
}

pub(super) fn label(given: &str) -> Result<(String, String), BadInput> {
    match given.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(BadInput::Label(shown(given))),
    }
}
