//! What a file is like, as FUSE has it.

use rustix::fs::{FileType, Stat};

use crate::export::Owners;
use crate::sys;
use crate::wire::Reply;

/// How long the kernel may take a name for known, in seconds. A name that
/// means another file by now is found out when it is used (`ESTALE`), and the
/// kernel looks it up again.
const NAME_SECONDS: u64 = 60;
/// How long it may take a directory's attributes for known, where it checks
/// permissions by them. A file's it asks for each time.
const DIRECTORY_SECONDS: u64 = 1;
/// And those of a file that it has just made.
const NEW_FILE_SECONDS: u64 = 1;

/// What follows a node that was found or made.
pub(crate) fn entry(node: u64, stat: &Stat, owners: Owners) -> Reply {
    known(node, stat, owners, lifetime(stat, owners))
}

/// What follows a file that was made just now: many programs ask what it is
/// like before they write to it, and the write makes the kernel forget it.
pub(crate) fn new_entry(node: u64, stat: &Stat, owners: Owners) -> Reply {
    known(node, stat, owners, NEW_FILE_SECONDS)
}

fn known(node: u64, stat: &Stat, owners: Owners, seconds: u64) -> Reply {
    let reply = Reply::new().u64(node).u64(0).u64(NAME_SECONDS).u64(seconds);
    attributes(reply.u64(0), stat, owners)
}

/// The answer to a question for attributes.
pub(crate) fn attributes_alone(stat: &Stat, owners: Owners) -> Reply {
    attributes(Reply::new().u64(lifetime(stat, owners)).u64(0), stat, owners)
}

#[allow(clippy::unnecessary_cast, reason = "macOS has other types")]
fn lifetime(stat: &Stat, owners: Owners) -> u64 {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if directory && owners == Owners::True { DIRECTORY_SECONDS } else { 0 }
}

#[allow(
    clippy::unnecessary_cast,
    clippy::cast_lossless,
    clippy::useless_conversion,
    reason = "macOS has other types"
)]
fn attributes(reply: Reply, stat: &Stat, owners: Owners) -> Reply {
    let (uid, gid) = owners.seen(stat.st_uid, stat.st_gid);
    reply
        .u64(stat.st_ino as u64)
        .u64(stat.st_size as u64)
        .u64(stat.st_blocks as u64)
        .u64(stat.st_atime as u64)
        .u64(stat.st_mtime as u64)
        .u64(stat.st_ctime as u64)
        .u32(stat.st_atime_nsec as u32)
        .u32(stat.st_mtime_nsec as u32)
        .u32(stat.st_ctime_nsec as u32)
        .u32(sys::bits(stat.st_mode))
        .u32(stat.st_nlink as u32)
        .u32(uid)
        .u32(gid)
        .u32(0)
        .u32(stat.st_blksize as u32)
        .u32(0)
}
