//! What differs between systems, behind one set of signatures.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
pub(crate) use linux::end_with_parent;
#[cfg(target_os = "macos")]
pub(crate) use macos::end_with_parent;
