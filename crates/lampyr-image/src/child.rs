//! Programs of the host, run with a bound on their time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::ImageError;

/// How long a program may take. Nothing here takes a minute on a good day;
/// the rest is for slow mirrors.
const LIMIT: Duration = Duration::from_mins(10);

/// How long a program that was told to stop may clean up.
const GRACE: Duration = Duration::from_secs(5);

/// How much of what a failing program said is worth reading.
const TAIL: u64 = 1500;

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
    run_within(command, LIMIT)
}

fn run_within(command: &mut Command, limit: Duration) -> Result<Vec<u8>, ImageError> {
    let program = name_of(command);
    let failed = |source| ImageError::Run { program: program.clone(), source };
    // Files instead of pipes: nothing to drain, and a grandchild that lives on
    // cannot keep us waiting for the end of its output.
    let mut stdout = tempfile::tempfile().map_err(failed)?;
    let mut stderr = tempfile::tempfile().map_err(failed)?;
    let mut child = start(command, &stdout, &stderr).map_err(failed)?;
    let status = wait(&mut child, limit).map_err(failed)?;
    let said = tail(&mut stderr);
    match status {
        Some(status) if status.success() => whole(&mut stdout).map_err(failed),
        Some(status) => Err(ImageError::Failed { program, status, said }),
        None => Err(ImageError::Slow { program, seconds: limit.as_secs(), said }),
    }
}

fn name_of(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn start(command: &mut Command, stdout: &File, stderr: &File) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()
}

/// Waits for a child; one that takes too long is stopped, and `None` returned.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let in_time = wait_until(child, Instant::now() + limit)?;
    if in_time.is_none() {
        // Politely first: mmdebstrap unmounts what it has mounted.
        if let Some(pid) = Pid::from_raw(child.id() as i32) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if wait_until(child, Instant::now() + GRACE)?.is_none() {
            child.kill()?;
            child.wait()?;
        }
    }
    Ok(in_time)
}

fn wait_until(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
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

    #[test]
    fn a_program_that_takes_too_long_is_stopped() {
        let begun = Instant::now();
        let error = run_within(&mut shell("exec sleep 60"), Duration::from_millis(50));
        assert!(matches!(error, Err(ImageError::Slow { .. })));
        assert!(begun.elapsed() < GRACE);
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
