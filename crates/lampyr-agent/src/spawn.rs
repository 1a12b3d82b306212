//! Starting a process: its own session, its own control group, pipes to us.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use lampyr_proto::{Exec, FileJob, Job, Request, WINDOW, decode_message};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cgroup::Cgroup;
use crate::dial::dial;
use crate::export::{bare, export};
use crate::file;
use crate::place;
use crate::terminal::{self, Terminal};
use crate::user::User;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The pipe of a process that copies files, in bytes.
const BULK_PIPE: usize = 1 << 20;

/// From the kernel's `linux/sched.h`; libc's constants of these names overflow.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A process that was born in its control group and waits to hear what it is
/// to be. Dropped, it ends.
///
/// Every process begins so. One that was parked before the machine was saved
/// spares the first command after a restore its birth.
pub(crate) struct Parked {
    pid: i32,
    job: OwnedFd,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    group: Option<Cgroup>,
}

/// A process that was started, and our ends of its pipes.
pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) group: Option<Cgroup>,
}

impl Parked {
    /// Gives birth to a process in `group`, where there is one.
    pub(crate) fn new(group: Option<Cgroup>) -> io::Result<Self> {
        let (orders, job) = pipe_with(PipeFlags::CLOEXEC)?;
        let (in_read, stdin) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdout, out_write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, err_write) = pipe_with(PipeFlags::CLOEXEC)?;
        for ours in [&stdin, &stdout, &stderr] {
            rustix::io::ioctl_fionbio(ours, true)?;
        }
        for bulky in [&stdin, &stdout] {
            // A window's worth: a full pipe is a change of process, and those
            // are slow. A smaller one will do where this is refused.
            let _ = rustix::pipe::fcntl_setpipe_size(bulky, WINDOW as usize);
        }
        match fork_into(group.as_ref().map(AsFd::as_fd))? {
            0 => live(&orders, [in_read.as_fd(), out_write.as_fd(), err_write.as_fd()]),
            pid => Ok(Self { pid, job, stdin, stdout, stderr, group }),
        }
    }

    /// Tells it what to become: `request` is an encoded [`Request::Exec`]. A
    /// program that cannot be run is told on its standard error and exits with
    /// 127 or 126, as a shell would have it.
    pub(crate) fn start(self, request: &[u8], terminal: Option<Terminal>) -> io::Result<Spawned> {
        let Self { pid, job, mut stdin, mut stdout, stderr, group } = self;
        let mut job = File::from(job);
        job.write_all(&terminal::encode(terminal.as_ref()))?;
        job.write_all(request)?;
        // The end of the file is the end of the request.
        drop(job);
        if let Some(Terminal { ours, .. }) = terminal {
            (stdin, stdout) = (ours.try_clone()?, ours);
        }
        Ok(Spawned { pid, stdin, stdout, stderr, group })
    }
}

/// A child's life, from birth. Never returns.
fn live(orders: &OwnedFd, pipes: [BorrowedFd<'_>; 3]) -> ! {
    let code = match prepare(orders, pipes) {
        Ok(Some(body)) => body.become_it(),
        // Nobody wants it any more.
        Ok(None) => 0,
        Err(e) => complain(&format!("cannot start a process: {e}"), 126),
    };
    // SAFETY: ends this process without running the parent's destructors.
    unsafe { libc::_exit(code) }
}

/// Becomes a session of its own and waits for the request.
fn prepare(orders: &OwnedFd, pipes: [BorrowedFd<'_>; 3]) -> io::Result<Option<Body>> {
    let orders = set_up(orders, pipes)?;
    let mut told = Vec::new();
    File::from(orders).read_to_end(&mut told)?;
    let Some((&terminal, request)) = told.split_first_chunk() else { return Ok(None) };
    terminal::take(terminal)?;
    match decode_message(request) {
        Ok(Request::Exec(exec)) => Body::prepare(&exec).map(Some),
        _ => Ok(None),
    }
}

/// Takes its pipes as standard streams and lets go of all else of its parent.
fn set_up(orders: &OwnedFd, [stdin, stdout, stderr]: [BorrowedFd<'_>; 3]) -> io::Result<OwnedFd> {
    const ORDERS: libc::c_uint = 3;
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    // SAFETY: the number is replaced on purpose, and nothing in the child uses
    // what it stood for.
    if unsafe { libc::dup3(orders.as_raw_fd(), ORDERS as i32, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // Whoever does not become a program keeps what only an exec closes: our
    // ends of its own pipes, of everybody else's, and the channel.
    // SAFETY: nothing in the child uses any of these descriptors.
    unsafe { libc::close_range(ORDERS + 1, libc::c_uint::MAX, 0) };
    rustix::process::setsid()?;
    // What programs find elsewhere: some close all that they could have open.
    let files = Rlimit { current: Some(1024), maximum: Some(1 << 18) };
    let _ = setrlimit(Resource::Nofile, files);
    // SAFETY: the default action is always valid; an empty set is a valid
    // signal mask, and the old one is not asked for.
    unsafe {
        // What was ignored stays so in a clone and through an exec, and Rust
        // ignores this one.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    Ok(stdio(ORDERS as i32))
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

/// What a child is to be.
struct Body {
    user: Option<User>,
    workdir: Option<CString>,
    work: Work,
}

enum Work {
    Program { candidates: Vec<CString>, argv: Vec<CString>, env: Vec<CString> },
    Put(String),
    Get(String),
    Dial(u16),
    Export,
    File(Box<FileJob>),
}

impl Body {
    fn prepare(exec: &Exec) -> io::Result<Self> {
        let user = exec.user.as_deref().map(User::find).transpose()?;
        let env = environment(exec, user.as_ref());
        let work = match &exec.job {
            Job::Shell(text) => program(&["/bin/sh", "-c", text], &env)?,
            Job::Argv(argv) => program(&argv.iter().map(String::as_str).collect::<Vec<_>>(), &env)?,
            Job::Put(path) => Work::Put(path.clone()),
            Job::Get(path) => Work::Get(path.clone()),
            Job::Dial(port) => Work::Dial(*port),
            Job::Export => Work::Export,
            Job::File(job) => Work::File(job.clone()),
        };
        let workdir = exec.workdir.as_deref().map(CString::new).transpose()?;
        Ok(Self { user, workdir, work })
    }

    fn become_it(self) -> i32 {
        match self.enter() {
            Ok(()) => self.work.run(),
            Err(what) => complain(&what, 126),
        }
    }

    /// Becomes the user and goes where it is to begin.
    fn enter(&self) -> Result<(), String> {
        if let Some(user) = &self.user {
            user.become_it().map_err(|e| format!("cannot become '{}': {e}", user.name))?;
        }
        match &self.workdir {
            Some(dir) => {
                let entered = rustix::process::chdir(dir);
                entered.map_err(|e| format!("cannot enter {dir:?}: {e}"))
            }
            // Nobody asked for the home directory, and there may be none.
            None => {
                let home = self.user.as_ref().map_or("/root", |user| &user.home);
                let entered = rustix::process::chdir(home).or_else(|_| rustix::process::chdir("/"));
                entered.map_err(|e| format!("cannot enter /: {e}"))
            }
        }
    }
}

impl Work {
    fn run(self) -> i32 {
        match self {
            Self::Program { candidates, argv, env } => {
                place::roam();
                execute(&candidates, &argv, &env)
            }
            Self::Put(path) => report(put(&path)),
            Self::Get(path) => report(get(&path)),
            Self::Dial(port) => report(dial(port, stdio(0).into(), stdio(1).into())),
            Self::Export => {
                report(bare(Path::new("/")).and_then(|root| export(&root, File::from(stdio(1)))))
            }
            Self::File(job) => match file::work(*job, stdio(0).into(), stdio(1).into()) {
                Ok(()) => 0,
                Err((said, code)) => complain(&said, code),
            },
        }
    }
}

fn environment(exec: &Exec, user: Option<&User>) -> Vec<(String, String)> {
    let name = user.map_or("root", |user| &user.name);
    let defaults = [
        ("HOME", user.map_or("/root", |user| &user.home)),
        ("LANG", "C.UTF-8"),
        ("LOGNAME", name),
        ("PATH", DEFAULT_PATH),
        ("SHELL", user.map_or("/bin/sh", |user| &user.shell)),
        ("USER", name),
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
    widen(&input);
    let limits = lampyr_tree::Limits::default();
    lampyr_tree::unpack_past_cache(input, Path::new(path), limits).map(drop)
}

fn get(path: &str) -> Result<(), lampyr_tree::TreeError> {
    let output = File::from(stdio(1));
    widen(&output);
    lampyr_tree::pack_past_cache(Path::new(path), output).map(drop)
}

/// What is copied in bulk changes from process to process as seldom as it can.
fn widen(pipe: &File) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, BULK_PIPE);
}

/// A descriptor of the child's own, for it alone to close.
fn stdio(number: i32) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the child has put a pipe there and uses it nowhere else.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn report(done: Result<(), impl std::fmt::Display>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(e) => complain(&e.to_string(), 1),
    }
}

fn complain(what: &str, code: i32) -> i32 {
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{what}\n").as_bytes());
    code
}
