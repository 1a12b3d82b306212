//! Running other programs, with their failures as sentences.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use crate::failure::{Failure, Result};

/// Writes a line for the person at the terminal.
#[allow(clippy::print_stderr)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Writes a line of what a task was asked for.
#[allow(clippy::print_stdout)]
pub(crate) fn answer(line: &str) {
    println!("{line}");
}

/// Runs a command to its end; what it prints goes to standard error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{} failed: {status}", shown(command))))
}

/// Runs a command to its end and says how that was.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    status.map_err(|error| not_started(command, &error))
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|error| not_started(command, &error))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let reason = String::from_utf8_lossy(&stderr);
    Err(Failure::new(format!("{} failed: {status}\n{}", shown(command), reason.trim_end())))
}

/// A command that is killed, with all that it started, when the time is up.
///
/// On a terminal it stays in the foreground, for Ctrl-C to reach it; there it
/// is killed alone, and a person is at hand for the rest.
pub(crate) fn bounded(limit: Duration, program: impl AsRef<OsStr>) -> Command {
    if find("timeout").is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("timeout");
    if std::io::stdin().is_terminal() {
        command.arg("--foreground");
    }
    command.arg("--kill-after=10").arg(limit.as_secs().to_string()).arg(program);
    command
}

/// Where a program lies; the `sbin` folders count, on the PATH or not.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot start {}: {error}", shown(command)))
}

/// The command as one would type it, without its environment.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
