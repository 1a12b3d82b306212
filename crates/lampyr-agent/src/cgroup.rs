//! One control group per process that the host asked for: what it may use,
//! what happened to it, and a way to end all of it at once.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
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
    /// Groups that ran something and are empty again, or will be. Making one
    /// costs more than using one again.
    used: Vec<Cgroup>,
}

/// The group of one process and all it starts. Dropping it removes it where
/// it is empty.
pub(crate) struct Cgroup {
    path: PathBuf,
    dir: OwnedFd,
    /// Its files that are read for each process, open.
    procs: File,
    memory_events: File,
    pids_events: File,
    /// What they counted when the last process ended.
    counted: (u64, u64),
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
        Self { jobs: None, next: 0, used: Vec::new() }
    }

    /// Mounts and limits. A kernel without control groups is used as it is.
    pub(crate) fn prepare() -> Self {
        Self { jobs: prepare_root().ok(), next: 0, used: Vec::new() }
    }

    /// A group for a new process.
    pub(crate) fn take(&mut self) -> Option<Cgroup> {
        match self.used.iter().rposition(Cgroup::is_empty) {
            Some(at) => Some(self.used.swap_remove(at)),
            None => self.make(),
        }
    }

    /// Takes the group of a process that has ended. What that left running
    /// stays in it, and then nobody else gets the group.
    pub(crate) fn give_back(&mut self, group: Cgroup) {
        self.used.push(group);
    }

    /// What tells that the processes of all groups stand still, or go on.
    pub(crate) fn events(&self) -> Option<File> {
        File::open(self.jobs.as_ref()?.join("cgroup.events")).ok()
    }

    /// Begins to stop the processes of all groups. One that waits in the kernel
    /// stops when it leaves it.
    pub(crate) fn freeze(&self) {
        if let Some(jobs) = &self.jobs {
            let _ = fs::write(jobs.join("cgroup.freeze"), "1");
        }
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        if let Some(jobs) = &self.jobs {
            let _ = fs::write(jobs.join("cgroup.freeze"), "0");
        }
    }

    fn make(&mut self) -> Option<Cgroup> {
        let path = self.jobs.as_ref()?.join(self.next.to_string());
        self.next += 1;
        fs::create_dir(&path).ok()?;
        Cgroup::open(path).ok()
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

    /// What the kernel had to do to the group since this was last asked.
    pub(crate) fn troubles(&mut self) -> Troubles {
        let now = (counter(&self.memory_events, b"oom_kill "), counter(&self.pids_events, b"max "));
        let (oom, pids) = std::mem::replace(&mut self.counted, now);
        Troubles { oom: now.0 > oom, pids_limit: now.1 > pids }
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        let dir = File::open(&path)?.into();
        let file = |name| File::open(path.join(name));
        let (procs, memory_events) = (file("cgroup.procs")?, file("memory.events")?);
        let pids_events = file("pids.events")?;
        Ok(Self { path, dir, procs, memory_events, pids_events, counted: (0, 0) })
    }

    fn is_empty(&self) -> bool {
        self.procs.read_at(&mut [0; 16], 0).is_ok_and(|n| n == 0)
    }
}

/// Whether what `events` tells of stands still. Reading it makes it tell of the
/// next change.
pub(crate) fn stands_still(events: &File) -> bool {
    counter(events, b"frozen ") == 1
}

/// The number behind `key` at the start of a line.
fn counter(file: &File, key: &[u8]) -> u64 {
    let mut text = [0; 512];
    let n = file.read_at(&mut text, 0).unwrap_or(0);
    let number = text[..n].split(|b| *b == b'\n').find_map(|line| line.strip_prefix(key));
    number.and_then(|n| std::str::from_utf8(n).ok()?.parse().ok()).unwrap_or(0)
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
