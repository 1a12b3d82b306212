mod calls;

use std::io;

use crate::Means;
use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};

/// Gives up all that could be gained, and life itself when the parent dies.
pub(super) fn renounce() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    // Many small VMs: a huge page for a few bytes is memory lost to the next.
    rustix::thread::disable_transparent_huge_pages(true)?;
    // A change of user clears this, so it comes after it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above; then this process was
    // given to somebody else, who would never end it.
    match rustix::process::getppid() {
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Lets go of every descriptor at `exec`, whoever opened it and however; what
/// is given is marked afterwards. Needs Linux 5.11.
pub(super) fn keep_nothing() -> io::Result<()> {
    let on_exec = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: the call marks descriptors and touches no memory.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, on_exec) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What this kernel has.
pub(super) fn means() -> Means {
    const VERSION: libc::c_uint = 1;
    // SAFETY: asked for its version it is given no rules, and reads none.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    // SAFETY: without a filter, which it refuses, it only says whether it takes one.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::null::<u8>(), 0, 0)
    };
    let takes = refused == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT);
    Means { landlock: u32::try_from(version).ok().filter(|v| *v > 0), filter: Some(takes) }
}

/// Shuts the file system, and all calls but those that a network needs.
pub(super) fn seal() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    shut_files().map_err(io::Error::other)?;
    calls::allow_few().map_err(io::Error::other)
}

/// Lets no file be opened and nothing be listened to. A kernel without Landlock
/// shuts what it can; the calls that open files are not allowed anyway.
fn shut_files() -> Result<RulesetStatus, RulesetError> {
    let nothing = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    Ok(nothing.restrict_self()?.ruleset)
}
