//! Becoming somebody else after a restore.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use lampyr_proto::Resumed;
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::card::Slot;
use crate::trust::trust;

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

/// What a new identity is put in force with, opened ahead of its use.
pub(crate) struct Identity {
    random: File,
    /// A guest without a root disk has no such file and no need of one.
    machine_id: Option<File>,
    card: Option<Slot>,
}

impl Identity {
    /// Opens what it takes; `None` where there is nothing to change.
    pub(crate) fn open(scope: Scope) -> io::Result<Option<Self>> {
        if scope == Scope::Process {
            return Ok(None);
        }
        let random = File::options().write(true).open("/dev/urandom")?;
        let machine_id = File::options().write(true).open("/run/machine-id").ok();
        Ok(Some(Self { random, machine_id, card: Slot::open()? }))
    }

    /// Puts a new identity in force: randomness, clock, names.
    pub(crate) fn assume(&mut self, new: &Resumed) -> io::Result<()> {
        reseed(&self.random, &new.entropy)?;
        set_clock(new.clock_ns)?;
        rustix::system::sethostname(new.hostname.as_bytes())?;
        if let Some(card) = &new.card {
            let none = || io::Error::other("this machine has no card");
            self.card.as_mut().ok_or_else(none)?.assume(card)?;
        }
        new.authority.as_deref().map_or(Ok(()), trust)?;
        match &self.machine_id {
            Some(file) => file.write_all_at(format!("{}\n", new.machine_id).as_bytes(), 0),
            None => Ok(()),
        }
    }
}

/// Sets the wall clock, in nanoseconds since 1970.
pub(crate) fn set_clock(ns: u64) -> io::Result<()> {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let now = Timespec { tv_sec: seconds as i64, tv_nsec: rest as i64 };
    Ok(clock_settime(ClockId::Realtime, now)?)
}

/// Mixes `entropy` into the kernel's generator and makes it use it at once;
/// without that, every restore of one template would draw the same numbers.
fn reseed(random: &File, entropy: &[u8]) -> io::Result<()> {
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
