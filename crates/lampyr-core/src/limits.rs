//! What a VM can have, whoever asks for it.

use std::collections::BTreeMap;

use lampyr_types::{BadName, Name, SandboxId, Size};

use crate::{Domain, Mount, Policy};

/// The least memory a VM lives with.
const LEAST_MEMORY: Size = Size::mib(128);
/// Memory comes in pages of this many bytes.
const MEMORY_STEP: u64 = 2 << 20;
/// The smallest disk.
const LEAST_DISK: Size = Size::mib(1024);
/// The largest disk: 2^32 blocks of 4 KiB, where ext4 ends.
const MOST_DISK: Size = Size::mib(16 << 20);
/// The least that a volume can be bounded to.
const LEAST_QUOTA: Size = Size::mib(1);
/// The slowest network that anybody could want, in bytes a second.
const LEAST_RATE: Size = Size::bytes(1 << 10);

/// The most commands before which it is remembered what a session was.
pub const MOST_CHECKPOINTS: u32 = 1000;
/// The most forks that are made at once.
pub const MOST_FORKS: u32 = 1000;

/// What a host has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Its processors.
    pub cpus: u32,
    /// Its memory.
    pub memory: Size,
}

/// Why a VM or a volume cannot be as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadShape {
    /// More memory than the host has.
    #[error("{asked} of memory is more than this host has ({host})")]
    TooMuchMemory {
        /// What was asked for.
        asked: Size,
        /// What there is.
        host: Size,
    },
    /// More processors than the host has.
    #[error("{asked} CPUs are more than this host has ({host})")]
    TooManyCpus {
        /// What was asked for.
        asked: u32,
        /// What there is.
        host: u32,
    },
    /// No processor.
    #[error("0 is too small: the least is 1")]
    NoCpu,
    /// More than a disk can have.
    #[error("{asked} is too large: the most is {most}")]
    TooLarge {
        /// What was asked for.
        asked: Size,
        /// What would do.
        most: Size,
    },
    /// Less than will do.
    #[error("{asked} is too small: the least is {least}")]
    TooSmall {
        /// What was asked for.
        asked: Size,
        /// What would do.
        least: Size,
    },
}

impl Limits {
    /// So many processors.
    pub fn cpus(&self, asked: u32) -> Result<u32, BadShape> {
        match asked {
            0 => Err(BadShape::NoCpu),
            _ if asked > self.cpus => Err(BadShape::TooManyCpus { asked, host: self.cpus }),
            _ => Ok(asked),
        }
    }

    /// So much memory, rounded up to whole pages.
    pub fn memory(&self, asked: Size) -> Result<Size, BadShape> {
        let host = Size::mib(self.memory.as_mib());
        match asked {
            _ if asked < LEAST_MEMORY => Err(BadShape::TooSmall { asked, least: LEAST_MEMORY }),
            _ if asked > self.memory => Err(BadShape::TooMuchMemory { asked, host }),
            _ => Ok(Size::bytes(asked.as_bytes().next_multiple_of(MEMORY_STEP))),
        }
    }
}

/// Why something cannot be noted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no key of a label: it is empty, or has '=' or a NUL byte in it")]
pub struct BadLabel(String);

/// What is noted about a snapshot or a volume, by keys that can be said before
/// a `=`.
pub fn labels(labels: &BTreeMap<String, String>) -> Result<(), BadLabel> {
    let bad = labels.keys().find(|key| key.is_empty() || key.contains(['=', '\0']));
    bad.map_or(Ok(()), |key| Err(BadLabel(key.chars().take(80).collect())))
}

/// A disk of this size.
pub fn disk_size(asked: Size) -> Result<Size, BadShape> {
    match asked {
        _ if asked < LEAST_DISK => Err(BadShape::TooSmall { asked, least: LEAST_DISK }),
        _ if asked > MOST_DISK => Err(BadShape::TooLarge { asked, most: MOST_DISK }),
        _ => Ok(asked),
    }
}

/// A volume of at most this size.
pub fn quota(asked: Size) -> Result<Size, BadShape> {
    let small = asked < LEAST_QUOTA;
    if small { Err(BadShape::TooSmall { asked, least: LEAST_QUOTA }) } else { Ok(asked) }
}

/// A network of at most so many bytes a second.
pub fn rate(asked: Size) -> Result<Size, BadShape> {
    let small = asked < LEAST_RATE;
    if small { Err(BadShape::TooSmall { asked, least: LEAST_RATE }) } else { Ok(asked) }
}

/// Why a session cannot be called so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSessionName {
    /// Not a name.
    #[error(transparent)]
    Name(#[from] BadName),
    /// It could be taken for an id.
    #[error("invalid name '{0}': it looks like the id of a session")]
    IsId(String),
}

/// What a session is to be called.
pub fn session_name(given: &str) -> Result<Name, BadSessionName> {
    let name = given.parse()?;
    let id = given.parse::<SandboxId>().is_ok();
    if id { Err(BadSessionName::IsId(given.to_owned())) } else { Ok(name) }
}

/// Whether a policy lets a VM reach the host of a secret; what no rule opens is
/// shut to its secrets, too.
pub fn reaches(policy: Option<&Policy>, host: &Domain) -> bool {
    policy.is_some_and(|policy| policy.resolves(host).is_ok())
}

/// The name that is both a variable's and a secret's, where one is.
pub fn named_twice<'a>(
    mut secrets: impl Iterator<Item = &'a str>,
    env: &[(String, String)],
) -> Option<&'a str> {
    secrets.find(|name| env.iter().any(|(key, _)| key == name))
}

/// A place in a VM to mount something at, plainly said: no dots, one slash
/// between two names. `None` where nothing can be mounted.
pub fn mount_place(given: &str) -> Option<String> {
    let names: Vec<_> = given.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    let good = given.starts_with('/') && !names.is_empty() && !names.contains(&"..");
    good.then(|| format!("/{}", names.join("/")))
}

/// The place that two mounts have, where two have one.
pub fn mounted_twice(mounts: &[Mount]) -> Option<&str> {
    let mut places: Vec<_> = mounts.iter().map(|mount| mount.guest.as_str()).collect();
    places.sort_unstable();
    places.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
