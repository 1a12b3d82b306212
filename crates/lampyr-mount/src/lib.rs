//! A directory of the host's as a file system of the guest's: the guest's
//! kernel speaks FUSE, and this answers.
//!
//! Every byte of a request is hostile. A request names a node and at most one
//! entry of it, never a path; what it names is opened beneath the exported
//! directory without following any link, so that nothing outside of it can be
//! reached whatever the guest says and whoever moves things meanwhile.
//!
//! Nothing is cached that would hide what others do to the directory: names
//! are known to the guest until they turn out to be stale, attributes of files
//! are asked for each time, and data that was read is dropped at each open.

mod attributes;
mod entries;
mod errno;
mod export;
mod files;
mod handles;
mod nodes;
mod opcode;
mod quota;
mod server;
mod sys;
mod target;
mod wire;

pub use export::Export;
pub use quota::{Quota, recount, weigh};
pub use server::Server;
pub use wire::Malformed;
