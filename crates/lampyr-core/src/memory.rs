//! How much of the host's memory a process takes.

/// A process's share of the memory it maps, in bytes: what it has alone, and
/// its part of what it shares. `None` where the system does not say.
#[cfg(target_os = "linux")]
pub(crate) fn of_process(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// Nothing is known here yet.
#[cfg(not(target_os = "linux"))]
pub(crate) fn of_process(_pid: u32) -> Option<u64> {
    None
}
