//! The `lampyr` program: where it is, and what it is asked directly. Copies and
//! terminals are its own: it writes nothing outside of what was asked for,
//! whatever a guest sends, and knows how to treat a terminal.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::error::{Error, ErrorKind, Failure};

/// As much of what the program complains of is kept, in bytes.
const MAX_SAID: u64 = 16 << 10;

/// Which Lampyr to use; see [`ensure_runtime`](crate::ensure_runtime).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeOptions {
    bin: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl RuntimeOptions {
    /// What the environment says.
    pub fn new() -> Self {
        Self::default()
    }

    /// The `lampyr` program; `LAMPYR_BIN`, else the one on the `PATH`, where it
    /// is left out.
    #[must_use]
    pub fn bin(self, bin: impl Into<PathBuf>) -> Self {
        Self { bin: Some(bin.into()), ..self }
    }

    /// The directory where Lampyr keeps everything; `LAMPYR_HOME`, else
    /// `~/.lampyr`, where it is left out.
    #[must_use]
    pub fn home(self, home: impl Into<PathBuf>) -> Self {
        Self { home: Some(home.into()), ..self }
    }

    /// Whether all that is said here is said there, too.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        (self.bin.is_none() || self.bin == other.bin)
            && (self.home.is_none() || self.home == other.home)
    }

    /// The program, wherever it is.
    pub(crate) fn find(&self) -> Result<Program, Error> {
        let named = self.bin.clone().or_else(|| set("LAMPYR_BIN").map(PathBuf::from));
        let path = match named {
            Some(path) if path.is_file() => Some(path),
            Some(path) => {
                let message = format!("{} is no program", path.display());
                return Err(Error::connection(message));
            }
            None => on_path(&set("PATH").unwrap_or_default()),
        };
        let path = path.and_then(|path| std::path::absolute(path).ok()).ok_or_else(missing)?;
        let home = self.home.as_deref().map(std::path::absolute).transpose();
        let home = home.map_err(|e| Error::usage(format!("home: {e}")))?;
        Ok(Program { path, home })
    }
}

fn set(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

fn on_path(folders: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(folders).map(|folder| folder.join("lampyr")).find(|path| path.is_file())
}

fn missing() -> Error {
    Failure::new("there is no program lampyr on the PATH")
        .hint_at("install it, or say in LAMPYR_BIN where it is")
        .of(ErrorKind::ConnectionFailed)
}

/// The program, and the state directory that it is to use.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) home: Option<PathBuf>,
}

impl Program {
    /// Copies between this host and a sandbox.
    pub(crate) async fn copy(&self, from: OsString, to: OsString) -> Result<(), Error> {
        let mut command = self.command("cp");
        command.args([from, to]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().map_err(|e| self.unstarted(e))?;
        let said = tail(child.stderr.take()).await;
        let status = child.wait().await.map_err(|e| self.unstarted(e))?;
        let other = || format!("the copy was broken off: {status}");
        if status.success() { Ok(()) } else { Err(complaint(status.code(), &said, other)) }
    }

    /// Gives this process's terminal to a shell in a sandbox. Its exit code.
    pub(crate) async fn terminal(&self, sandbox: &str, shell: &[&str]) -> Result<i32, Error> {
        let mut command = self.command("exec");
        command.args(["--pty", sandbox, "--"]).args(shell);
        let status = command.status().await.map_err(|e| self.unstarted(e))?;
        Ok(status.code().unwrap_or(-1))
    }

    fn command(&self, task: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.arg(task).kill_on_drop(true);
        self.home.as_ref().map(|home| command.env("LAMPYR_HOME", home));
        command
    }

    pub(crate) fn unstarted(&self, cause: io::Error) -> Error {
        Failure::new(format!("{} cannot be started: {cause}", self.path.display()))
            .because(cause)
            .of(ErrorKind::ConnectionFailed)
    }
}

/// A path of this host that cannot be taken for one in a sandbox. A `/` at its
/// end says that it is a directory.
pub(crate) fn here(path: &Path) -> Result<OsString, Error> {
    let absolute = std::path::absolute(path);
    Ok(absolute.map_err(|e| Error::usage(format!("{}: {e}", path.display())))?.into())
}

/// The beginning of what a stream says; the rest is read, and not kept.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let (mut said, Some(mut stream)) = (Vec::new(), stream) else { return Vec::new() };
    let _ = (&mut stream).take(MAX_SAID).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    said
}

/// What the program says when it fails: `error: …`, and `hint: …`.
/// Where it says nothing of the kind, `else_say` does.
pub(crate) fn complaint(
    code: Option<i32>,
    said: &[u8],
    else_say: impl FnOnce() -> String,
) -> Error {
    let said = String::from_utf8_lossy(said);
    let line = |name| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let message = line("error").map_or_else(else_say, str::to_owned);
    let failure = Failure { hint: line("hint").map(str::to_owned), ..Failure::new(message) };
    failure.of(if code == Some(2) { ErrorKind::Usage } else { ErrorKind::ConnectionFailed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_in_its_own_words() {
        let other = || "it broke off".to_owned();
        let error = complaint(Some(2), b"noise\nerror: no such file\nhint: make it\n", other);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Usage, "no such file"));
        assert_eq!(error.hint(), Some("make it"));
        let error = complaint(Some(1), b"\xff\n", other);
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
        assert_eq!((error.message(), error.hint()), ("it broke off", None));
    }

    #[test]
    fn a_program_is_where_it_was_said_to_be_or_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(on_path(folder.path().as_os_str()), None);
        let path = folder.path().join("lampyr");
        std::fs::write(&path, "").unwrap();
        assert_eq!(on_path(folder.path().as_os_str()), Some(path.clone()));
        assert_eq!(RuntimeOptions::new().bin(&path).find().unwrap().path, path);
        let error = RuntimeOptions::new().bin(folder.path()).find().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionFailed);
    }

    #[tokio::test]
    async fn what_is_not_kept_is_read_all_the_same() {
        let long = vec![b'x'; 1 << 20];
        assert_eq!(tail(Some(&long[..])).await.len() as u64, MAX_SAID);
    }
}
