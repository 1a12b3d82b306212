//! What images are called on the command line.

use lampyr_image::ImageRef;
use lampyr_oci::Reference;

use crate::args::{CreateArgs, MachineArgs};
use crate::bad_input::{BadInput, BadValue};
use crate::core_api::CreateRequest;
use crate::wiring::HostChoice;

use super::run::{no_nul, timeout};
use super::{Layers, Machine};

/// An image as an argument calls it.
pub(crate) fn image(given: &str) -> Result<ImageRef, BadInput> {
    given.parse().map_err(|e: lampyr_image::BadImageRef| BadInput::Image(e.into()))
}

/// An image of a registry's as an argument calls it.
pub(crate) fn reference(given: &str) -> Result<Reference, BadInput> {
    given.parse().map_err(|e: lampyr_oci::OciError| BadInput::Image(BadValue::Image(e.to_string())))
}

/// Everything `images create` needs to know, checked.
pub(crate) struct CreateSettings {
    /// What to make.
    pub(crate) request: CreateRequest,
    /// Where to make it.
    pub(crate) host: HostChoice,
}

impl CreateSettings {
    /// Resolves and checks everything; touches nothing.
    pub(crate) fn resolve(args: &CreateArgs, layers: &Layers<'_>) -> Result<Self, BadInput> {
        no_nul(&[("--run", &args.run)])?;
        let machine = MachineArgs {
            image: args.from.clone(),
            size: args.size.clone(),
            net: args.net.clone(),
            policy: args.policy.clone(),
            ..MachineArgs::default()
        };
        let machine = Machine::resolve(&machine, layers)?;
        let request = CreateRequest {
            name: image(&args.name)?,
            from: machine.origin,
            commands: args.run.clone(),
            timeout: timeout(args.timeout.as_deref(), layers)?,
            access: machine.net,
            cpus: machine.cpus,
            memory: machine.memory,
            disk_size: machine.disk_size,
        };
        Ok(Self { request, host: layers.host()? })
    }
}
