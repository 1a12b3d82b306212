//! What differs between systems, behind one set of signatures.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
pub(crate) use linux::{DIRECTORY, allocate, bits, chmod, linux, make_node, open_beneath, seek};
#[cfg(target_os = "macos")]
pub(crate) use macos::{DIRECTORY, allocate, bits, chmod, linux, make_node, open_beneath, seek};
