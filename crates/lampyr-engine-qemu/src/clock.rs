//! How fast the host's time-stamp counter runs.

/// The frequency in kHz, measured against the monotonic clock; `None` where
/// there is no such counter.
///
/// The guest of an emulated `microvm` can only calibrate against a timer that
/// a busy host delays, and then hangs; so it is told.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tsc_khz() -> Option<u64> {
    use std::arch::x86_64::_rdtsc;
    use std::time::{Duration, Instant};
    // SAFETY: reading the counter has no preconditions on this architecture.
    let now = || (Instant::now(), unsafe { _rdtsc() });
    let (start, first) = now();
    let (mut end, mut last) = now();
    while end - start < Duration::from_millis(20) {
        std::hint::spin_loop();
        (end, last) = now();
    }
    let khz = u128::from(last.checked_sub(first)?) * 1_000_000 / (end - start).as_nanos();
    u64::try_from(khz).ok().filter(|khz| *khz > 0)
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn tsc_khz() -> Option<u64> {
    None
}
