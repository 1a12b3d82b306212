//! What this process finds around itself, looked up once and handed down, so
//! that everything else can be tested in a world that is made up.

use std::io::IsTerminal;

use lampyr_types::Size;

use crate::core_api::limits::Limits;
use crate::env_vars::{self, Env};

/// The environment, the host and the terminal.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "three streams are terminals or not")]
pub(crate) struct World {
    /// The environment variables.
    pub(crate) env: Env,
    /// The host's processors.
    pub(crate) cpus: u32,
    /// The host's memory in bytes.
    pub(crate) memory: u64,
    /// Whether standard input is a terminal.
    pub(crate) stdin_is_terminal: bool,
    /// Whether standard output is a terminal.
    pub(crate) stdout_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub(crate) stderr_is_terminal: bool,
}

impl World {
    /// The world as it is.
    pub(crate) fn here() -> Self {
        Self {
            env: Env::of_process(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory: host_memory(),
            stdin_is_terminal: std::io::stdin().is_terminal(),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// What a VM can have of this host.
    pub(crate) fn limits(&self) -> Limits {
        Limits { cpus: self.cpus, memory: Size::bytes(self.memory) }
    }

    /// Whether help may be coloured.
    pub(crate) fn colour(&self) -> bool {
        self.stdout_is_terminal && self.env.get(&env_vars::NO_COLOR).is_none()
    }

    /// A host of 4 CPUs and 8 GiB, in a pipe.
    #[cfg(test)]
    pub(crate) fn made_up(env: &[(&'static str, &str)]) -> Self {
        Self {
            env: Env::of(env),
            cpus: 4,
            memory: 8 << 30,
            stdin_is_terminal: true,
            stdout_is_terminal: false,
            stderr_is_terminal: false,
        }
    }
}

/// The host's memory in bytes; all there can be, where the system won't say.
fn host_memory() -> u64 {
    // SAFETY: `sysconf` takes a number and touches no memory of ours.
    let ask = |name| u64::try_from(unsafe { libc::sysconf(name) }).ok();
    let pages = ask(libc::_SC_PHYS_PAGES);
    pages.zip(ask(libc::_SC_PAGESIZE)).map_or(u64::MAX, |(pages, size)| pages * size)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_host_has_some_memory() {
        assert!((64 << 20..1 << 50).contains(&super::host_memory()));
    }
}
