//! Processes as the system counts them.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Runs `lampyr run true` with this very program, and says how long it took.
pub(super) fn run_true() -> Result<Duration, Failure> {
    let failed = |source| Failure::System { what: "run this program again", source };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["run", "true"]).stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().map_err(failed)?;
    let took = start.elapsed();
    if status.success() {
        Ok(took)
    } else {
        Err(failed(std::io::Error::other(format!("`lampyr run true` ended with {status}"))))
    }
}

/// A process's share of the memory it maps, in MB; 0 where the system does
/// not say.
pub(super) fn pss(pid: Option<u32>) -> f64 {
    let text = read(pid, "smaps_rollup");
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kb = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kb.unwrap_or(0.0) / 1024.0
}

/// The processor time that a process has used.
pub(super) fn cpu_time(pid: Option<u32>) -> Duration {
    let text = read(pid, "stat");
    // The name, in brackets, may hold anything; the fields come after it.
    let fields = text.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    // SAFETY: `sysconf` takes a number and touches no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / per_second.max(1) as f64)
}

fn read(pid: Option<u32>, file: &str) -> String {
    let path = pid.map(|pid| format!("/proc/{pid}/{file}"));
    path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}
