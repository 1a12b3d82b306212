//! Processes, as `/proc` shows them.

use std::fs;
use std::path::{Path, PathBuf};

/// One process and no other that may get its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    born: u64,
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    parent: i32,
    state: char,
    born: u64,
}

impl Process {
    /// The process of this number, if there is one that has not ended.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = stat(pid).filter(|stat| stat.state != 'Z')?;
        Some(Self { pid, born: stat.born })
    }

    /// Its number.
    pub fn pid(self) -> i32 {
        self.pid
    }

    /// Whether it has not ended yet.
    pub fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Its children.
    pub fn children(self) -> Vec<Self> {
        let ours = |pid: &i32| stat(*pid).is_some_and(|stat| stat.parent == self.pid);
        all().filter(ours).filter_map(Self::find).collect()
    }

    /// The child that has this word in its command line.
    pub fn child(self, word: &str) -> Option<Self> {
        let has = |child: &Self| child.command_line().iter().any(|other| other == word);
        self.children().into_iter().find(has)
    }

    /// Sends it a signal.
    pub fn signal(self, signal: i32) {
        if self.is_alive() {
            // SAFETY: plain system call.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    /// A field of `/proc/<pid>/status`.
    pub fn status(self, field: &str) -> String {
        let text = fs::read_to_string(self.path("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// Its share of all pages, in kB.
    pub fn memory(self) -> u64 {
        let text = fs::read_to_string(self.path("smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
    }

    /// Its command line.
    pub fn command_line(self) -> Vec<String> {
        let bytes = fs::read(self.path("cmdline")).unwrap_or_default();
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// What its open descriptors are.
    pub fn files(self) -> Vec<PathBuf> {
        let links = crate::entries(&self.path("fd"));
        links.into_iter().filter_map(|link| fs::read_link(link).ok()).collect()
    }

    fn path(self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }
}

/// The processes that hold a file below `dir` open.
pub(crate) fn holders(dir: &Path) -> Vec<Process> {
    let holds = |process: &Process| {
        // A process may end while it is looked at.
        let Ok(links) = fs::read_dir(process.path("fd")) else { return false };
        let mut files = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
        files.any(|file| file.starts_with(dir))
    };
    all().filter_map(Process::find).filter(holds).collect()
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let fields: Vec<_> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let state = fields.first()?.chars().next()?;
    Some(Stat { state, parent: fields.get(1)?.parse().ok()?, born: fields.get(19)?.parse().ok()? })
}
