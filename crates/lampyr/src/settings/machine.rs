//! What a VM is made of, checked against what the host has.

use std::collections::HashSet;

use lampyr_image::ImageRef;
use lampyr_types::{Name, Size};

use crate::args::MachineArgs;
use crate::bad_input::{BadInput, BadValue, Origin};
use crate::core_api::{
    self as core, Access, AskedMachine, Forward, MachinePart, Mount, Snapshot, limits,
};
use crate::env_vars;

use super::mounts::mounts;
use super::net::net;
use super::secrets::Wanted;
use super::snapshot::snapshot_name;
use super::{Layers, parse, shown};

/// A VM to be.
pub(super) struct Machine {
    pub(super) origin: core::Origin,
    pub(super) cpus: u32,
    pub(super) memory: Size,
    pub(super) disk_size: Size,
    pub(super) forwards: Vec<Forward>,
    pub(super) mounts: Vec<Mount>,
    pub(super) net: Option<Access>,
    /// What is to be put into its requests.
    pub(super) secrets: Wanted,
}

impl Machine {
    /// Resolves and checks everything; touches nothing.
    pub(super) fn resolve(args: &MachineArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        if let Some(given) = &args.snapshot {
            return Self::saved(args, layers, &snapshot_name(given)?);
        }
        let image = layers.pick(args.image.as_deref(), &env_vars::IMAGE, parse::<ImageRef>)?;
        Self::with(args, layers, core::Origin::Image(image.value))
    }

    /// What a snapshot is made of cannot be changed, only said once more.
    fn saved(args: &MachineArgs, layers: &Layers<'_>, name: &Name) -> Result<Self, BadInput> {
        let origin = core::Origin::Snapshot(name.clone());
        let asked = Self::with(args, layers, origin)?;
        // Whoever launches it says that it is not there.
        let Ok(saved) = core::snapshot(layers.home(), name) else { return Ok(asked) };
        asked.agree(args, &saved)
    }

    fn agree(self, args: &MachineArgs, saved: &Snapshot) -> Result<Self, BadInput> {
        let size = &args.size;
        saved
            .agrees(&AskedMachine {
                cpus: size.cpus.as_ref().map(|_| self.cpus),
                memory: size.memory.as_ref().map(|_| self.memory),
                disk_size: size.disk_size.as_ref().map(|_| self.disk_size),
                network: self.net.is_some(),
            })
            .map_err(|differs| BadInput::Saved { flag: flag(differs.what, args), differs })?;
        let (memory, disk_size) = (Size::bytes(saved.memory), Size::bytes(saved.disk_size));
        Ok(Self { cpus: saved.cpus, memory, disk_size, net: saved.reach(self.net), ..self })
    }

    fn with(
        args: &MachineArgs,
        layers: &Layers<'_>,
        origin: core::Origin,
    ) -> Result<Self, BadInput> {
        let (net, secrets) = net(args, &layers.world().env)?;
        Ok(Self {
            net,
            secrets,
            origin,
            cpus: cpus(args, layers)?,
            memory: memory(args, layers)?,
            disk_size: disk_size(args, layers)?,
            mounts: mounts(args)?,
            forwards: forwards(&args.forward)?,
        })
    }
}

/// The processors: an explicit number is refused where the default yields.
fn cpus(args: &MachineArgs, layers: &Layers<'_>) -> Result<u32, BadInput> {
    let limits = layers.world().limits();
    let picked = layers.pick(args.size.cpus.as_deref(), &env_vars::CPUS, number)?;
    if picked.origin == Origin::Default {
        return Ok(picked.value.min(limits.cpus));
    }
    picked.then(|asked| Ok(limits.cpus(asked)?)).map(|picked| picked.value)
}

/// The memory, rounded up to whole pages.
fn memory(args: &MachineArgs, layers: &Layers<'_>) -> Result<Size, BadInput> {
    let limits = layers.world().limits();
    let picked = layers.pick(args.size.memory.as_deref(), &env_vars::MEMORY, parse)?;
    picked.then(|asked| Ok(limits.memory(asked)?)).map(|picked| picked.value)
}

fn disk_size(args: &MachineArgs, layers: &Layers<'_>) -> Result<Size, BadInput> {
    let picked = layers.pick(args.size.disk_size.as_deref(), &env_vars::DISK_SIZE, parse)?;
    picked.then(|asked| Ok(limits::disk_size(asked)?)).map(|picked| picked.value)
}

fn number(text: &str) -> Result<u32, BadValue> {
    text.parse().map_err(|_| BadValue::Number(shown(text)))
}

/// The flag that asks for a part of a machine.
fn flag(what: MachinePart, args: &MachineArgs) -> &'static str {
    match what {
        MachinePart::Cpus => "--cpus",
        MachinePart::Memory => "--memory",
        MachinePart::DiskSize => "--disk-size",
        MachinePart::Network if args.net.is_some() => "--net",
        MachinePart::Network if args.policy.is_some() => "--policy",
        MachinePart::Network => "--network",
    }
}

/// Reads all `--forward`. A port leads to one place.
fn forwards(given: &[String]) -> Result<Vec<Forward>, BadInput> {
    let forwards: Vec<_> = given.iter().map(|given| forward(given)).collect::<Result<_, _>>()?;
    let mut ports = HashSet::new();
    match forwards.iter().find(|forward| !ports.insert(forward.host)) {
        Some(twice) => Err(BadInput::ForwardTwice(twice.host)),
        None => Ok(forwards),
    }
}

/// Reads `HOST:GUEST`.
fn forward(given: &str) -> Result<Forward, BadInput> {
    let bad = || BadInput::Forward(shown(given));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
    let (host, guest) = given.split_once(':').ok_or_else(bad)?;
    Ok(Forward { host: port(host)?, guest: port(guest)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_asked_for_by_the_flag_that_was_given() {
        let given = || Some("x".to_owned());
        let lan = || MachineArgs { network: given(), ..MachineArgs::default() };
        let rows = [
            (lan(), "--network"),
            (MachineArgs { net: given(), ..lan() }, "--net"),
            (MachineArgs { policy: given(), ..lan() }, "--policy"),
        ];
        for (args, expected) in rows {
            assert_eq!(flag(MachinePart::Network, &args), expected);
        }
    }

    #[test]
    fn a_port_of_this_host_leads_to_one_place() {
        let read = |given: [&str; 2]| forwards(&given.map(str::to_owned));
        assert_eq!(read(["8080:80", "8081:80"]).unwrap().len(), 2);
        let twice = read(["8080:80", "8080:81"]).unwrap_err().to_string();
        assert_eq!(twice, "--forward: port 8080 of this host is given twice");
    }
}
