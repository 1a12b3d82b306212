//! What differs between systems.

#[cfg(target_os = "linux")]
#[path = "sys/linux.rs"]
mod imp;
#[cfg(not(target_os = "linux"))]
#[path = "sys/macos.rs"]
mod imp;

use std::io;

use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{Identity, Jail, Means, Seal};

/// Enters the jail: runs in the child, between fork and exec.
pub(crate) fn enter(jail: &Jail) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::Nofile, jail.max_files)?;
    limit(Resource::Fsize, jail.max_file)?;
    if let Some(identity) = jail.identity {
        become_user(identity)?;
    }
    imp::renounce()?;
    imp::keep_nothing()?;
    for fd in &jail.descriptors {
        // SAFETY: whoever made the jail holds the descriptor open across the fork.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*fd) };
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(())
}

/// Seals this process, which must have one thread.
pub(crate) fn seal(seal: &Seal) -> io::Result<()> {
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Data, seal.max_memory)?;
    if let Some(identity) = seal.identity {
        become_user(identity)?;
    }
    // From now on there is not even another thread.
    limit(Resource::Nproc, 0)?;
    imp::renounce()?;
    imp::seal()
}

pub(crate) fn means() -> Means {
    imp::means()
}

fn limit(what: Resource, most: u64) -> io::Result<()> {
    let most = rustix::process::getrlimit(what).maximum.map_or(most, |m| m.min(most));
    Ok(setrlimit(what, Rlimit { current: Some(most), maximum: Some(most) })?)
}

fn become_user(identity: Identity) -> io::Result<()> {
    let id = identity.id();
    // SAFETY: plain system calls; the list of groups is empty.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(id) == 0 && libc::setuid(id) == 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}
