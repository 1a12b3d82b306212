//! What a command of the user's prints, for us alone. It ends with all that it
//! started where it takes too long, or where we are told to end meanwhile.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, setsid, waitid};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long it may be over, or we told to end, before that is seen.
const TICK: Duration = Duration::from_millis(10);

/// What `read` makes of what a shell's command prints; what it says besides is
/// for whoever asked. It has no terminal, and nothing to read.
///
/// # Errors
///
/// Says what the command did instead.
pub(crate) fn printed<T: Send + 'static>(
    command: &str,
    read: fn(ChildStdout) -> io::Result<T>,
) -> Result<T, String> {
    printed_within(command, read, PATIENCE)
}

fn printed_within<T: Send + 'static>(
    command: &str,
    read: fn(ChildStdout) -> io::Result<T>,
    limit: Duration,
) -> Result<T, String> {
    // A signal that comes from now on ends us once the command is gone.
    let signals = Signals::hold();
    let mut child =
        start(command, signals.before).map_err(|e| format!("could not be started: {e}"))?;
    let (told, heard) = mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || told.send(stdout.map(read)));
    let until = Instant::now() + limit;
    let mut said = None;
    while said.is_none() || !has_exited(&child) {
        if signals.came() || Instant::now() >= until {
            end(&mut child);
            return Err(format!("took longer than {} s", limit.as_secs()));
        }
        said = said.or_else(|| heard.recv_timeout(TICK).ok());
        if said.is_some() {
            std::thread::sleep(TICK);
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    match said {
        _ if !status.success() => Err(format!("failed: {status}")),
        Some(Some(Ok(text))) => Ok(text),
        _ => Err("could not be read".to_owned()),
    }
}

fn start(command: &str, mask: libc::sigset_t) -> io::Result<Child> {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: all that runs between fork and exec is system calls.
    unsafe { shell.pre_exec(move || alone(&mask)) }.spawn()
}

/// Makes a child the first of a session of its own, which ends with us: runs
/// between fork and exec. What asks on a terminal hears that there is none,
/// instead of waiting in vain for its turn.
fn alone(mask: &libc::sigset_t) -> io::Result<()> {
    setsid()?;
    // SAFETY: the set is whole.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Whether it has; it is not reaped, so that its group's number stays its own.
fn has_exited(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    // Who cannot be waited for is gone.
    group(child).is_none_or(|group| !matches!(waitid(WaitId::Pid(group), options), Ok(None)))
}

fn group(child: &Child) -> Option<Pid> {
    Pid::from_raw(child.id().cast_signed())
}

/// Ends a command with all that it started.
fn end(child: &mut Child) {
    let _ = group(child).map(|group| kill_process_group(group, Signal::KILL));
    let _ = child.wait();
}

/// `SIGINT` and `SIGTERM`, held back from this thread and those that it starts.
/// What came meanwhile does what it does once this is dropped.
struct Signals {
    before: libc::sigset_t,
}

impl Signals {
    fn hold() -> Self {
        let mut before = none();
        // SAFETY: both sets are whole, and ours.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &both(), &raw mut before) };
        Self { before }
    }

    /// Whether one has come.
    fn came(&self) -> bool {
        let mut pending = none();
        let is_in = |set: &libc::sigset_t, signal| {
            // SAFETY: the set is whole, and the signal's number is one.
            unsafe { libc::sigismember(set, signal) == 1 }
        };
        // SAFETY: the set is whole, and ours.
        unsafe { libc::sigpending(&raw mut pending) };
        let held = |signal| is_in(&pending, signal) && !is_in(&self.before, signal);
        held(libc::SIGINT) || held(libc::SIGTERM)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set is what was in force before.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut())
        };
    }
}

fn none() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `sigemptyset` makes a whole set of what it is given.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn both() -> libc::sigset_t {
    let mut set = none();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the set is whole, and the signal's number is one.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn text(mut from: ChildStdout) -> io::Result<String> {
        let mut text = String::new();
        from.read_to_string(&mut text).map(|_| text)
    }

    /// What comes of a command within a second, of which nothing shall live on.
    fn within_a_second(command: &str) -> Result<String, String> {
        let (mut left, held) = io::pipe().unwrap();
        // Whoever lives on keeps its copy of this end open.
        let inherited = rustix::io::dup(&held).unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        let begun = Instant::now();
        let result = printed_within(command, text, Duration::from_secs(1));
        drop((File::from(inherited), held));
        left.read_to_end(&mut Vec::new()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(20), "something lived on");
        result
    }

    #[test]
    fn a_command_that_takes_too_long_ends_with_all_that_it_started() {
        let late = Err("took longer than 1 s".to_owned());
        assert_eq!(within_a_second("sleep 93; echo x"), late);
        assert_eq!(within_a_second("sleep 93 & echo x"), late);
        assert_eq!(within_a_second("exec >&-; sleep 93"), late);
        assert_eq!(within_a_second("echo x"), Ok("x\n".to_owned()));
        assert_eq!(within_a_second("exit 3"), Err("failed: exit status: 3".to_owned()));
    }

    #[test]
    fn a_command_hears_signals() {
        let killed = within_a_second("kill -TERM $$; echo x").unwrap_err();
        assert!(killed.starts_with("failed: signal: 15"), "{killed}");
    }

    #[test]
    fn a_command_has_no_terminal_to_wait_for() {
        let asked = within_a_second("{ echo x > /dev/tty; } 2>&- || echo none");
        assert_eq!(asked, Ok("none\n".to_owned()));
    }

    #[test]
    fn a_signal_waits_until_the_command_is_gone() {
        let signals = Signals::hold();
        assert!(!signals.came());
        // SAFETY: the signal is for this thread, which holds it back.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
        assert!(signals.came());
        let error = within_a_second("sleep 93").unwrap_err();
        assert!(error.starts_with("took longer"), "{error}");
        let (mut taken, term) = (0, both());
        // SAFETY: takes the signal out again, which is there.
        unsafe { libc::sigwait(&raw const term, &raw mut taken) };
        assert_eq!(taken, libc::SIGTERM);
    }
}
