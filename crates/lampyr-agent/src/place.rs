//! On which processor what runs.
//!
//! Where processors are emulated, to wake somebody on another one is an
//! interrupt that the host carries out, and who spins for a lock may spin for
//! a turn of the host's scheduler. So the agent stays on one processor, and so
//! does what copies bytes for it. Programs run on any.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::thread::{CpuSet, sched_setaffinity};

/// The kernel's command line says so where the processor is emulated.
const EMULATED: &str = "lampyr.warm";

static SETTLED: AtomicBool = AtomicBool::new(false);

/// Whether the processor is emulated.
pub(crate) fn is_emulated() -> bool {
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.contains(EMULATED))
}

/// How many processors there are, whoever may use them.
pub(crate) fn processors() -> i64 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }
}

/// Stays on the first processor from now on, with all that is born here.
pub(crate) fn settle() {
    SETTLED.store(sched_setaffinity(None, &only(0)).is_ok(), Relaxed);
}

/// Whether it stays there, as it does where processors are emulated.
pub(crate) fn is_settled() -> bool {
    SETTLED.load(Relaxed)
}

/// May run on any processor again.
pub(crate) fn roam() {
    if is_settled() {
        let mut all = CpuSet::new();
        (0..CpuSet::MAX_CPU).for_each(|processor| all.set(processor));
        let _ = sched_setaffinity(None, &all);
    }
}

/// The set of one processor.
pub(crate) fn only(processor: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(processor);
    set
}
