//! What a VM's owner starts to be its network.

use std::io;
use std::os::fd::AsFd;

use crate::core_api as core;
use crate::failure::Failure;

/// Is a VM's network until the owner, at the other end of our standard input,
/// or the VM is gone.
pub(super) fn be() -> Result<u8, Failure> {
    let failed = |source| Failure::System { what: "be a VM's network", source };
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    core::be_network(control).map_err(failed)?;
    Ok(0)
}
