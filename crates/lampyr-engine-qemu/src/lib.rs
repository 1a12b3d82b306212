//! Machines as QEMU processes: the `microvm` profile, everything by descriptor.
//!
//! Memory, disks, monitor, console, channel and KVM's device are descriptors
//! that a QEMU inherits; by path it opens its own program's parts and nothing
//! else. So it needs no authority over any file of a sandbox, and two of them
//! cannot meet in a directory. `docs/design/0003` has the exceptions.
//!
//! Saving and restoring: the guest's memory is a file that stays where it is;
//! only the state of the devices (about 100 KB) moves, through a pipe.

mod arguments;
mod clock;
mod copy;
mod devices;
mod guest_memory;
mod inherit;
mod launch;
mod layer;
mod layers;
mod log;
mod machine;
mod memory;
mod program;
mod qmp;

use std::net::Ipv4Addr;
use std::path::Path;

use lampyr_engine::{
    Accel, BootImage, Engine, EngineError, Machine, MachineSpec, Promise, Restore,
};

pub use program::{Program, Version};

/// The QEMU engine with one program and one accelerator.
#[derive(Debug, Clone)]
pub struct Qemu {
    program: Program,
    accel: Accel,
    /// The gateway of the network that QEMU itself gives its machines, where it
    /// does.
    gateway: Option<Ipv4Addr>,
}

impl Qemu {
    /// An engine that runs `program` with `accel`.
    pub fn new(program: Program, accel: Accel) -> Self {
        Self { program, accel, gateway: None }
    }

    /// The same, but for the network cards: they are on QEMU's own user
    /// networking, whose gateway is this host's loopback. Whatever QEMU may
    /// reach, a guest reaches: it is there to be measured against.
    pub fn with_own_network(program: Program, accel: Accel, gateway: Ipv4Addr) -> Self {
        Self { program, accel, gateway: Some(gateway) }
    }
}

impl Engine for Qemu {
    fn fingerprint(&self) -> String {
        format!("qemu-{}-{}-{}", self.program.fingerprint(), self.accel, arguments::PROFILE)
    }

    fn boot<'a>(
        &'a self,
        spec: &'a MachineSpec,
        image: BootImage,
    ) -> Promise<'a, Result<Box<dyn Machine>, EngineError>> {
        Box::pin(launch::boot(self, *spec, image))
    }

    fn restore<'a>(
        &'a self,
        spec: &'a MachineSpec,
        image: Restore,
    ) -> Promise<'a, Result<Box<dyn Machine>, EngineError>> {
        Box::pin(launch::restore(self, *spec, image))
    }

    fn make_layer(&self, path: &Path, size: u64) -> std::io::Result<()> {
        layer::make(path, size)
    }

    fn check_layer(&self, layer: &std::fs::File, size: u64) -> std::io::Result<()> {
        layer::check(layer, size)
    }
}

/// `.map_err(io("do this"))`: what was tried when the system refused.
fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> EngineError {
    move |source| EngineError::Io { what, source }
}
