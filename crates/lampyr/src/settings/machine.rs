//! What a VM is made of, checked against what the host has.

use lampyr_image::ImageRef;
use lampyr_types::Size;

use crate::args::MachineArgs;
use crate::bad_input::{BadInput, BadValue, Origin};
use crate::core_api::{Access, Forward, Mount, Secret};
use crate::env_vars;

use super::mounts::mounts;
use super::net::net;
use super::{Layers, Picked, parse, shown};

/// The least memory a VM lives with.
const LEAST_MEMORY: Size = Size::mib(128);
/// Memory comes in pages of this many bytes.
const MEMORY_STEP: u64 = 2 << 20;
/// The smallest disk.
const LEAST_DISK: Size = Size::mib(1024);
/// The largest disk: 2^32 blocks of 4 KiB, where ext4 ends.
const MOST_DISK: Size = Size::mib(16 << 20);

/// A VM to be.
pub(super) struct Machine {
    pub(super) image: ImageRef,
    pub(super) cpus: u32,
    pub(super) memory: Size,
    pub(super) disk_size: Size,
    pub(super) forwards: Vec<Forward>,
    pub(super) mounts: Vec<Mount>,
    pub(super) net: Option<Access>,
}

impl Machine {
    /// Resolves and checks everything; touches nothing.
    pub(super) fn resolve(args: &MachineArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        Ok(Self {
            image: layers.pick(args.image.as_deref(), &env_vars::IMAGE, parse::<ImageRef>)?.value,
            cpus: cpus(args, layers)?,
            memory: memory(args, layers)?,
            disk_size: disk_size(args, layers)?,
            mounts: mounts(args)?,
            net: net(args, &layers.world().env)?,
            forwards: args.forward.iter().map(|given| forward(given)).collect::<Result<_, _>>()?,
        })
    }

    /// Its secrets.
    pub(super) fn secrets(&self) -> &[Secret] {
        self.net.as_ref().map(|access| access.secrets.as_slice()).unwrap_or_default()
    }
}

/// The processors: an explicit number is refused where the default yields.
fn cpus(args: &MachineArgs, layers: &Layers<'_>) -> Result<u32, BadInput> {
    let host = layers.world().cpus;
    let Picked { value, origin, variable } =
        layers.pick(args.size.cpus.as_deref(), &env_vars::CPUS, number)?;
    if origin == Origin::Default {
        return Ok(value.min(host));
    }
    let judged = Picked { value, origin, variable }.then(|asked| match asked {
        0 => Err(BadValue::TooSmall { asked: "0".to_owned(), least: "1".to_owned() }),
        _ if asked > host => Err(BadValue::TooManyCpus { asked, host }),
        _ => Ok(asked),
    });
    judged.map(|picked| picked.value)
}

/// The memory, rounded up to whole pages.
fn memory(args: &MachineArgs, layers: &Layers<'_>) -> Result<Size, BadInput> {
    let host = layers.world().memory;
    let judge = |asked: Size| match asked {
        _ if asked < LEAST_MEMORY => Err(BadValue::small_size(asked, LEAST_MEMORY)),
        _ if asked.as_bytes() > host => {
            Err(BadValue::TooMuchMemory { asked, host: Size::mib(host >> 20) })
        }
        _ => Ok(Size::bytes(asked.as_bytes().next_multiple_of(MEMORY_STEP))),
    };
    let picked = layers.pick(args.size.memory.as_deref(), &env_vars::MEMORY, parse)?;
    picked.then(judge).map(|picked| picked.value)
}

fn disk_size(args: &MachineArgs, layers: &Layers<'_>) -> Result<Size, BadInput> {
    let judge = |asked: Size| match asked {
        _ if asked < LEAST_DISK => Err(BadValue::small_size(asked, LEAST_DISK)),
        _ if asked > MOST_DISK => Err(BadValue::TooLarge { asked, most: MOST_DISK }),
        _ => Ok(asked),
    };
    let picked = layers.pick(args.size.disk_size.as_deref(), &env_vars::DISK_SIZE, parse)?;
    picked.then(judge).map(|picked| picked.value)
}

fn number(text: &str) -> Result<u32, BadValue> {
    text.parse().map_err(|_| BadValue::Number(shown(text)))
}

/// Reads `HOST:GUEST`.
fn forward(given: &str) -> Result<Forward, BadInput> {
    let bad = || BadInput::Forward(shown(given));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
    let (host, guest) = given.split_once(':').ok_or_else(bad)?;
    Ok(Forward { host: port(host)?, guest: port(guest)? })
}
