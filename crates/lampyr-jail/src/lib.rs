//! The authority that a VM's processes run under: as little as it can be.
//!
//! A jailed process gets open descriptors instead of paths, can gain no
//! privileges, leaves no core dump, dies with whoever started it and, where
//! root started it, is a user of its own that owns nothing. One that is a
//! program of ours seals itself besides: see [`Seal`].

mod seal;
mod sys;

pub use seal::{Means, Seal};

use std::fs;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A user and group id that a jailed process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u32);

impl Identity {
    /// An identity for one VM: `None` where this process cannot give one away
    /// because it is not root.
    ///
    /// `seed` tells VMs apart; the same user for two of them at once would let
    /// one reach into the other.
    pub fn for_vm(seed: u32) -> Option<Self> {
        rustix::process::geteuid().is_root().then(|| {
            let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
            Self(pick(seed, &map))
        })
    }

    /// The number.
    pub fn id(self) -> u32 {
        self.0
    }
}

/// Chooses an id from the upper half of the largest range of `uid_map`, far
/// from any user of the host.
fn pick(seed: u32, uid_map: &str) -> u32 {
    let ranges = uid_map.lines().filter_map(|line| {
        let mut columns = line.split_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (columns.next()?.ok()?, columns.next()?, columns.next()?.ok()?);
        Some((first, count))
    });
    let (first, count) = ranges.max_by_key(|(_, count)| *count).unwrap_or((0, 65_534));
    // The last id of the whole range is the kernel's word for "no user", and
    // signed 32-bit numbers are what some programs can hold.
    let end = (first + count).min(1 << 31).saturating_sub(16);
    let half = (end.saturating_sub(first) / 2).max(1);
    (end - 1 - u64::from(seed) % half) as u32
}

/// What a jailed process is given.
#[derive(Debug, Clone, Default)]
pub struct Jail {
    /// The descriptors it inherits, under the numbers they have here.
    pub descriptors: Vec<RawFd>,
    /// The user it becomes.
    pub identity: Option<Identity>,
    /// The longest file it may write, in bytes.
    pub max_file: u64,
    /// The most descriptors that it may hold.
    pub max_files: u64,
}

impl Jail {
    /// Makes `command` run under this authority.
    pub fn confine(self, command: &mut Command) {
        command.env_clear();
        // SAFETY: the hook makes plain system calls only; it neither allocates
        // nor takes a lock, so it may run between fork and exec.
        unsafe { command.pre_exec(move || sys::enter(&self)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn ids_come_from_the_mapped_range() {
        let whole = "         0          0 4294967295\n";
        assert!(pick(0, whole) > 1 << 30 && pick(u32::MAX, whole) > 1 << 29);
        assert_ne!(pick(1, whole), pick(2, whole));
        let container = "0 100000 65536\n";
        assert!((0..65536).contains(&pick(12345, container)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_jailed_process_has_what_it_was_given_and_nothing_more() {
        let given = fs::File::open("/dev/null").unwrap();
        // Not even one that somebody forgot to close on exec. Its number is
        // high, so that nothing in the shell comes to have the same.
        let kept_back = rustix::io::fcntl_dupfd_cloexec(&given, 200).unwrap();
        rustix::io::fcntl_setfd(&kept_back, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("/bin/sh");
        let script = "ls /proc/self/fd; cat /proc/self/status; ulimit -c; env";
        command.args(["-c", script]).env("SECRET", "x");
        let identity = Identity::for_vm(7);
        let descriptors = vec![given.as_raw_fd()];
        Jail { descriptors, identity, max_file: 1 << 30, max_files: 256 }.confine(&mut command);
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let has = |line: &str| output.lines().any(|l| l == line);
        assert!(has(&given.as_raw_fd().to_string()), "{output}");
        assert!(!has(&kept_back.as_raw_fd().to_string()), "{output}");
        assert!(has("NoNewPrivs:\t1"), "{output}");
        assert!(!output.contains("SECRET"), "{output}");
        if let Some(id) = identity.map(Identity::id) {
            assert!(has(&format!("Uid:\t{id}\t{id}\t{id}\t{id}")), "{output}");
            assert!(has("CapEff:\t0000000000000000"), "{output}");
        }
    }
}
