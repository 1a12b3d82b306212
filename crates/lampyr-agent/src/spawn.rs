//! Starting a process: its own session, its own control group, pipes to us.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lampyr_proto::{Exec, Job};
use rustix::pipe::{PipeFlags, pipe_with};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// From the kernel's `linux/sched.h`; libc's constants of these names overflow.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A process that was started, and our ends of its pipes.
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Starts what `exec` says, inside `group` where there is one. A program that
/// cannot be run is told on its standard error and exits with 127 or 126, as
/// a shell would have it.
pub(crate) fn spawn(exec: &Exec, group: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let body = Body::prepare(exec)?;
    let (in_read, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdout, out_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, err_write) = pipe_with(PipeFlags::CLOEXEC)?;
    for ours in [&stdin, &stdout, &stderr] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    match fork_into(group)? {
        0 => body.become_it([in_read.as_fd(), out_write.as_fd(), err_write.as_fd()]),
        pid => Ok(Spawned { pid, stdin, stdout, stderr }),
    }
}

/// `fork`, but the child is born in the control group: it cannot start
/// anything outside.
pub(crate) fn fork_into(group: Option<BorrowedFd<'_>>) -> io::Result<i32> {
    // SAFETY: a clone_args is plain data, and all zeroes is a valid one.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = libc::SIGCHLD as u64;
    args.flags = CLONE_CLEAR_SIGHAND;
    if let Some(group) = group {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM this is a fork, and the agent has one thread,
    // so the child is a whole copy that may run anything.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as i32) }
}

/// Everything the child needs, made before it is born.
struct Body {
    workdir: CString,
    work: Work,
}

enum Work {
    Program { candidates: Vec<CString>, argv: Vec<CString>, env: Vec<CString> },
    Put(String),
    Get(String),
}

impl Body {
    fn prepare(exec: &Exec) -> io::Result<Self> {
        let env = environment(exec);
        let work = match &exec.job {
            Job::Shell(text) => program(&["/bin/sh", "-c", text], &env)?,
            Job::Argv(argv) => program(&argv.iter().map(String::as_str).collect::<Vec<_>>(), &env)?,
            Job::Put(path) => Work::Put(path.clone()),
            Job::Get(path) => Work::Get(path.clone()),
        };
        let workdir = CString::new(exec.workdir.as_deref().unwrap_or("/root"))?;
        Ok(Self { workdir, work })
    }

    /// The child's life. Never returns.
    fn become_it(self, pipes: [BorrowedFd<'_>; 3]) -> ! {
        let code = match self.set_up(pipes) {
            Ok(()) => self.work.run(),
            Err(e) => complain(&format!("cannot enter {:?}: {e}", self.workdir), 126),
        };
        // SAFETY: ends this process without running the parent's destructors.
        unsafe { libc::_exit(code) }
    }

    fn set_up(&self, [stdin, stdout, stderr]: [BorrowedFd<'_>; 3]) -> io::Result<()> {
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        // Whoever does not become a program keeps what only an exec closes: our
        // ends of its own pipes, of everybody else's, and the channel.
        // SAFETY: nothing in the child uses any of these descriptors.
        unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
        rustix::process::setsid()?;
        // SAFETY: an empty set is a valid signal mask, and the old one is not asked for.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        match rustix::process::chdir(&self.workdir) {
            // Nobody asked for the default directory, and an image may lack it.
            Err(_) if self.workdir.as_bytes() == b"/root" => Ok(rustix::process::chdir("/")?),
            done => Ok(done?),
        }
    }
}

impl Work {
    fn run(self) -> i32 {
        match self {
            Self::Program { candidates, argv, env } => execute(&candidates, &argv, &env),
            Self::Put(path) => report(put(&path)),
            Self::Get(path) => report(get(&path)),
        }
    }
}

fn environment(exec: &Exec) -> Vec<(String, String)> {
    let defaults = [
        ("HOME", "/root"),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", "root"),
        ("PATH", DEFAULT_PATH),
        ("SHELL", "/bin/sh"),
        ("USER", "root"),
    ];
    let given = |name: &str| exec.env.iter().any(|(key, _)| key == name);
    let kept = defaults.into_iter().filter(|(name, _)| !given(name));
    kept.map(|(k, v)| (k.to_owned(), v.to_owned())).chain(exec.env.iter().cloned()).collect()
}

fn program(argv: &[&str], env: &[(String, String)]) -> io::Result<Work> {
    let name = *argv.first().ok_or_else(|| io::Error::other("an empty command"))?;
    let path = env.iter().rev().find(|(key, _)| key == "PATH").map_or("", |(_, v)| v);
    let candidates: Vec<_> = if name.is_empty() {
        Vec::new()
    } else if name.contains('/') {
        vec![CString::new(name)?]
    } else {
        let in_dir =
            |dir| CString::new(Path::new(OsStr::new(dir)).join(name).as_os_str().as_bytes());
        path.split(':').map(in_dir).collect::<Result<_, _>>()?
    };
    let argv = argv.iter().map(|a| CString::new(*a)).collect::<Result<_, _>>()?;
    let env =
        env.iter().map(|(k, v)| CString::new(format!("{k}={v}"))).collect::<Result<_, _>>()?;
    Ok(Work::Program { candidates, argv, env })
}

/// Becomes the first candidate that can be run; returns only where none can.
fn execute(candidates: &[CString], argv: &[CString], env: &[CString]) -> i32 {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv_ptrs, env_ptrs) = (pointers(argv), pointers(env));
    let mut denied = false;
    for candidate in candidates {
        // SAFETY: the path and both null-ended arrays live until the call
        // replaces this process or fails.
        unsafe { libc::execve(candidate.as_ptr(), argv_ptrs.as_ptr(), env_ptrs.as_ptr()) };
        let kind = io::Error::last_os_error().kind();
        denied |= !matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
    }
    let name = argv.first().map(|a| a.to_string_lossy()).unwrap_or_default();
    if denied {
        complain(&format!("cannot run '{name}': permission denied or not a program"), 126)
    } else {
        complain(&format!("cannot run '{name}': not found"), 127)
    }
}

fn put(path: &str) -> Result<(), lampyr_tree::TreeError> {
    let input = File::from(stdio(0));
    lampyr_tree::unpack(input, Path::new(path), lampyr_tree::Limits::default()).map(drop)
}

fn get(path: &str) -> Result<(), lampyr_tree::TreeError> {
    lampyr_tree::pack(Path::new(path), File::from(stdio(1))).map(drop)
}

/// The child's own standard stream, for it alone to close.
fn stdio(number: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the child has just put a pipe there and uses it nowhere else.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn report(done: Result<(), lampyr_tree::TreeError>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(e) => complain(&e.to_string(), 1),
    }
}

fn complain(what: &str, code: i32) -> i32 {
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{what}\n").as_bytes());
    code
}
