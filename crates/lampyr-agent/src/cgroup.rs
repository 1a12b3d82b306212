//! One control group per process that the host asked for: what it may use,
//! what happened to it, and a way to end all of it at once.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
/// More processes than this in all are refused: a fork bomb stops here, and
/// the agent stays responsive.
const MAX_PROCESSES: u64 = 4096;
/// What the guest's kernel and the agent keep for themselves, in bytes.
const RESERVE: u64 = 32 << 20;

/// Where groups come from.
pub(crate) struct Cgroups {
    /// `None` where control groups are not ours to use.
    jobs: Option<PathBuf>,
    next: u64,
    /// Made while nobody waits, so that a command does not.
    spare: Option<Cgroup>,
}

/// The group of one process and all it starts. Dropping it removes it where
/// it is empty.
pub(crate) struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
}

/// What the kernel did to a group.
#[derive(Default)]
pub(crate) struct Troubles {
    pub(crate) oom: bool,
    pub(crate) pids_limit: bool,
}

impl Cgroups {
    /// No groups: processes stay where the agent is.
    pub(crate) fn none() -> Self {
        Self { jobs: None, next: 0, spare: None }
    }

    /// Mounts and limits. A kernel without control groups is used as it is.
    pub(crate) fn prepare() -> Self {
        let mut groups = Self { jobs: prepare_root().ok(), next: 0, spare: None };
        groups.refill();
        groups
    }

    /// Makes the next group ready ahead of its use.
    pub(crate) fn refill(&mut self) {
        if self.spare.is_none() {
            self.spare = self.make();
        }
    }

    /// A group for a new process.
    pub(crate) fn take(&mut self) -> Option<Cgroup> {
        self.spare.take().or_else(|| self.make())
    }

    fn make(&mut self) -> Option<Cgroup> {
        let path = self.jobs.as_ref()?.join(self.next.to_string());
        self.next += 1;
        fs::create_dir(&path).ok()?;
        let dir = fs::File::open(&path).ok()?.into();
        Some(Cgroup { path, dir })
    }
}

fn prepare_root() -> io::Result<PathBuf> {
    use rustix::mount::{MountFlags, mount};
    let root = Path::new(ROOT);
    mount("cgroup2", root, "cgroup2", MountFlags::NOSUID, None)?;
    fs::write(root.join("cgroup.subtree_control"), "+memory +pids")?;
    let jobs = root.join("jobs");
    fs::create_dir(&jobs)?;
    fs::write(jobs.join("cgroup.subtree_control"), "+memory +pids")?;
    fs::write(jobs.join("pids.max"), MAX_PROCESSES.to_string())?;
    let info = rustix::system::sysinfo();
    let total = info.totalram as u64 * u64::from(info.mem_unit);
    fs::write(jobs.join("memory.max"), total.saturating_sub(RESERVE).to_string())?;
    Ok(jobs)
}

impl Cgroup {
    /// Ends everything in the group, wherever it has hidden itself.
    pub(crate) fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// What the kernel had to do to the group so far.
    pub(crate) fn troubles(&self) -> Troubles {
        Troubles {
            oom: self.counted("memory.events", "oom_kill "),
            pids_limit: self.counted("pids.events", "max "),
        }
    }

    fn counted(&self, file: &str, key: &str) -> bool {
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().filter_map(|l| l.strip_prefix(key)).any(|n| n.trim() != "0")
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
