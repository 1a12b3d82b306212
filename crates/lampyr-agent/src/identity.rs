//! Becoming somebody else after a restore.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use lampyr_proto::Resumed;
use rustix::time::{ClockId, Timespec, clock_settime};

/// How far a new identity may reach.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The machine is ours.
    Machine,
    /// We are a process on somebody's host, and leave that alone.
    Process,
}

const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// Puts a new identity in force: randomness, clock, names.
pub(crate) fn assume(new: &Resumed, scope: Scope) -> io::Result<()> {
    if scope == Scope::Process {
        return Ok(());
    }
    reseed(&new.entropy)?;
    let now = Timespec {
        tv_sec: (new.clock_ns / 1_000_000_000) as i64,
        tv_nsec: (new.clock_ns % 1_000_000_000) as i64,
    };
    clock_settime(ClockId::Realtime, now)?;
    rustix::system::sethostname(new.hostname.as_bytes())?;
    // A guest without a root disk has no such file and no need of one.
    match fs::write("/run/machine-id", format!("{}\n", new.machine_id)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Mixes `entropy` into the kernel's generator and makes it use it at once;
/// without that, every restore of one template would draw the same numbers.
fn reseed(entropy: &[u8]) -> io::Result<()> {
    let random = fs::File::options().write(true).open("/dev/urandom")?;
    let bits = entropy.len() as u32 * 8;
    let mut pool = [bits.to_ne_bytes(), (entropy.len() as u32).to_ne_bytes()].concat();
    pool.extend_from_slice(entropy);
    // SAFETY: a rand_pool_info is two ints and as many bytes as the second
    // says, which is how `pool` was laid out.
    let added = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY as _, pool.as_ptr()) };
    // SAFETY: this ioctl takes no argument.
    let reseeded = unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG as _, 0) };
    if added < 0 || reseeded < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
