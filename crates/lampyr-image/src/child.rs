//! Programs of the host, run with a bound on their time, each in a process
//! group of its own: what it says to its group it does not say to our caller,
//! and it ends with all that it started.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::{ImageError, sys};

/// How long a program may take. Nothing here takes a minute on a good day;
/// the rest is for slow mirrors.
const LIMIT: Duration = Duration::from_mins(10);

/// How long a program that was told to stop may clean up.
const GRACE: Duration = Duration::from_secs(5);

/// How much of what a failing program said is worth reading.
const TAIL: u64 = 1500;

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Set by whoever wants the programs of the host that run for this process to
/// end, for a signal that reached it does not reach them.
pub fn interrupted() -> Arc<AtomicBool> {
    INTERRUPTED.clone()
}

/// A command with plain English messages, that finds the administrator's
/// programs even where an ordinary user's PATH leaves them out.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    let path = std::env::join_paths(search_path()).unwrap_or_default();
    command.env("LC_ALL", "C.UTF-8").env("PATH", path);
    command
}

/// Where a program lies on this host.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn search_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).collect()
}

/// Checks that the `(program, package)` pairs that `what` needs are here.
pub(crate) fn need(
    what: &'static str,
    tools: &[(&'static str, &'static str)],
) -> Result<(), ImageError> {
    let missing = |&&(tool, _): &&(&'static str, &str)| {
        let path = Path::new(tool);
        if path.is_absolute() { !path.exists() } else { find(tool).is_none() }
    };
    let (tools, packages): (Vec<_>, Vec<_>) = tools.iter().filter(missing).copied().unzip();
    if tools.is_empty() { Ok(()) } else { Err(ImageError::MissingTools { what, tools, packages }) }
}

/// Runs a command to its end and returns what it wrote to stdout.
pub(crate) fn run(command: &mut Command) -> Result<Vec<u8>, ImageError> {
    run_within(command, LIMIT, &INTERRUPTED)
}

fn run_within(
    command: &mut Command,
    limit: Duration,
    interrupted: &AtomicBool,
) -> Result<Vec<u8>, ImageError> {
    let program = name_of(command);
    let failed = |source| ImageError::Run { program: program.clone(), source };
    // Files instead of pipes: nothing to drain, and a grandchild that lives on
    // cannot keep us waiting for the end of its output.
    let mut stdout = tempfile::tempfile().map_err(failed)?;
    let mut stderr = tempfile::tempfile().map_err(failed)?;
    let mut child = start(command, &stdout, &stderr).map_err(failed)?;
    let end = wait(&child, limit, interrupted).map_err(failed);
    let status = finish(&mut child, &end).map_err(failed)?;
    let said = tail(&mut stderr);
    match end? {
        End::Interrupted => Err(ImageError::Interrupted { program }),
        End::Late => Err(ImageError::Slow { program, seconds: limit.as_secs(), said }),
        End::Exited if status.success() => whole(&mut stdout).map_err(failed),
        End::Exited => Err(ImageError::Failed { program, status, said }),
    }
}

fn name_of(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn start(command: &mut Command, stdout: &File, stderr: &File) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
    // SAFETY: all that runs between fork and exec is one system call.
    unsafe { command.pre_exec(sys::end_with_parent) };
    command.process_group(0).spawn()
}

/// Why there is no more to wait for.
enum End {
    Exited,
    Late,
    Interrupted,
}

/// Waits until a child has exited, its time is over, or nobody wants it any
/// more. It is not reaped, so that its group's number stays its own.
fn wait(child: &Child, limit: Duration, interrupted: &AtomicBool) -> io::Result<End> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if has_exited(child)? {
            return Ok(End::Exited);
        }
        if interrupted.load(Relaxed) {
            return Ok(End::Interrupted);
        }
        if Instant::now() >= end {
            return Ok(End::Late);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn has_exited(child: &Child) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(group(child)?), options)?.is_some())
}

/// The group that a child leads.
fn group(child: &Child) -> io::Result<Pid> {
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Ends a child's whole group and reaps the child.
fn finish(child: &mut Child, end: &Result<End, ImageError>) -> io::Result<ExitStatus> {
    let group = group(child)?;
    if !matches!(end, Ok(End::Exited)) {
        // Politely first: mmdebstrap unmounts what it has mounted.
        let _ = kill_process_group(group, Signal::TERM);
        let _ = wait(child, GRACE, &AtomicBool::new(false));
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait()
}

fn whole(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of a file, as far as it can be read.
fn tail(file: &mut File) -> String {
    let len = file.metadata().map_or(0, |m| m.len());
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(len.saturating_sub(TAIL)));
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_returned_and_a_failure_carries_what_was_said() {
        assert_eq!(run(&mut shell("echo out; echo err >&2")).unwrap(), b"out\n");
        let error = run(&mut shell("echo no mirror >&2; exit 3")).unwrap_err();
        assert!(matches!(&error, ImageError::Failed { said, .. } if said == "no mirror"));
        assert!(error.to_string().starts_with("sh failed (exit status: 3)"));
    }

    /// The command, which shall not have started anything that outlives it.
    fn within(script: &str, limit: Duration, interrupted: bool) -> Result<Vec<u8>, ImageError> {
        let (mut left, held) = std::io::pipe().unwrap();
        let mut command = shell(&format!("(trap '' TERM; exec sleep 60) & {script}"));
        // Whoever lives on keeps its copy of this end open.
        let held = File::from(std::os::fd::OwnedFd::from(held));
        let inherited = rustix::io::dup(&held).unwrap();
        rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).unwrap();
        drop(held);
        let begun = Instant::now();
        let result = run_within(&mut command, limit, &AtomicBool::new(interrupted));
        drop(inherited);
        left.read_to_end(&mut Vec::new()).unwrap();
        assert!(begun.elapsed() < GRACE, "something lived on");
        result
    }

    #[test]
    fn a_program_ends_with_all_that_it_started() {
        let long = Duration::from_mins(1);
        let late = within("exec sleep 60", Duration::from_millis(50), false);
        assert!(matches!(late, Err(ImageError::Slow { .. })));
        let interrupted = within("exec sleep 60", long, true);
        assert!(matches!(interrupted, Err(ImageError::Interrupted { .. })));
        assert!(matches!(within("exit 3", long, false), Err(ImageError::Failed { .. })));
        assert_eq!(within("echo done", long, false).unwrap(), b"done\n");
    }

    #[test]
    fn a_signal_to_its_own_group_does_not_reach_us() {
        let error = run(&mut shell("echo no room >&2; kill -HUP 0; sleep 60")).unwrap_err();
        assert!(matches!(&error, ImageError::Failed { said, .. } if said == "no room"), "{error}");
    }

    #[test]
    fn missing_tools_are_named_with_their_packages() {
        let tools = [("sh", "dash"), ("no-such-tool", "some-package"), ("/no/file", "other")];
        let error = need("making an image", &tools).unwrap_err();
        assert_eq!(
            error.to_string(),
            "making an image needs no-such-tool, /no/file, which this host does not have"
        );
        assert!(error.hint().unwrap().contains("apt-get install some-package other"));
    }
}
