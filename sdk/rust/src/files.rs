//! Files of a sandbox.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::json;

use crate::asking::asking;
use crate::error::Error;
use crate::http::{Ask, call, call_for_bytes, done, exists, route};

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Something else, such as a device.
    #[serde(other)]
    Other,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileInfo {
    /// The last part of its path; bytes that are no UTF-8 appear as U+FFFD.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// How long it is, in bytes.
    pub size: u64,
    /// Its permissions.
    pub mode: u32,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Where it leads, if it is a link.
    pub target: Option<String>,
}

#[derive(Deserialize)]
struct View {
    name: String,
    kind: FileKind,
    size: u64,
    mode: String,
    modified_ms: i64,
    target: Option<String>,
}

impl From<View> for FileInfo {
    fn from(view: View) -> Self {
        let View { name, kind, size, target, .. } = view;
        let mode = u32::from_str_radix(&view.mode, 8).unwrap_or_default();
        Self { name, kind, size, mode, modified: time(view.modified_ms), target }
    }
}

/// A guest may say any time; one that this host cannot tell is 1970.
fn time(ms: i64) -> SystemTime {
    let span = Duration::from_millis(ms.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let time = if ms < 0 { epoch.checked_sub(span) } else { epoch.checked_add(span) };
    time.unwrap_or(epoch)
}

/// The files of a sandbox. Paths are absolute, and everything is done as root.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
/// let fs = sandbox.fs();
/// fs.write("/srv/data/a", "1\n").parents(true).mode(0o600).await?;
/// fs.rename("/srv/data/a", "/srv/data/b").await?;
/// let listed = fs.list("/srv/data").await?;
/// assert_eq!((listed[0].name.as_str(), listed[0].size, listed[0].mode), ("b", 2, 0o600));
/// fs.remove_dir("/srv/data").await?;
/// assert!(!fs.exists("/srv/data").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Fs<'a> {
    sandbox: &'a str,
}

impl<'a> Fs<'a> {
    pub(crate) fn new(sandbox: &'a str) -> Self {
        Self { sandbox }
    }

    /// A file's bytes, 1 GiB at most;
    /// [`copy_out`](crate::Sandbox::copy_out) takes any length.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        call_for_bytes(Ask::get(self.route("")).query("path", path)).await
    }

    /// A file to write. Awaiting it writes the file, which has its name once all
    /// of it is there.
    pub fn write(&self, path: impl Into<String>, data: impl Into<Vec<u8>>) -> WriteFile<'a> {
        let (path, data) = (path.into(), data.into());
        WriteFile { sandbox: self.sandbox, path, data, mode: None, parents: false }
    }

    /// What is in a directory, by name.
    pub async fn list(&self, path: &str) -> Result<Vec<FileInfo>, Error> {
        let views: Vec<View> = call(Ask::get(self.route("/list")).query("path", path)).await?;
        Ok(views.into_iter().map(FileInfo::from).collect())
    }

    /// What is known of a file; of what a link leads to.
    pub async fn stat(&self, path: &str) -> Result<FileInfo, Error> {
        let view: View = call(Ask::get(self.route("/stat")).query("path", path)).await?;
        Ok(view.into())
    }

    /// Whether there is something at a path, if only a link that leads nowhere.
    pub async fn exists(&self, path: &str) -> Result<bool, Error> {
        exists(Ask::get(self.route("/stat")).query("path", path).query("follow", "false")).await
    }

    /// Makes a directory, and those that it lies in. One that is there is no error.
    pub async fn mkdir(&self, path: &str) -> Result<(), Error> {
        done(Ask::post(self.route("/mkdir")).json(&json!({"path": path, "parents": true}))?).await
    }

    /// Gives a file another path; what is there is replaced.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), Error> {
        done(Ask::post(self.route("/move")).json(&json!({"from": from, "to": to}))?).await
    }

    /// Removes a file.
    pub async fn remove(&self, path: &str) -> Result<(), Error> {
        done(Ask::delete(self.route("")).query("path", path)).await
    }

    /// Removes a directory and what is in it.
    pub async fn remove_dir(&self, path: &str) -> Result<(), Error> {
        done(Ask::delete(self.route("")).query("path", path).query("recursive", "true")).await
    }

    fn route(&self, rest: &str) -> String {
        route("sandboxes", self.sandbox, "/files") + rest
    }
}

/// A file to be written; see [`Sandbox::write_file`](crate::Sandbox::write_file).
#[derive(Debug, Clone)]
#[must_use = "it is written once it is awaited"]
pub struct WriteFile<'a> {
    sandbox: &'a str,
    path: String,
    data: Vec<u8>,
    mode: Option<u32>,
    parents: bool,
}

impl WriteFile<'_> {
    /// Its permissions, as in `0o644`; those of the file that was there, or that,
    /// where nothing is said.
    pub fn mode(self, mode: u32) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// Whether directories that are missing are made.
    pub fn parents(self, parents: bool) -> Self {
        Self { parents, ..self }
    }

    async fn write(self) -> Result<(), Error> {
        let ask = Ask::put(route("sandboxes", self.sandbox, "/files")).query("path", &self.path);
        let ask = self.mode.iter().fold(ask, |ask, mode| ask.query("mode", &format!("{mode:04o}")));
        let ask = ask.query("parents", if self.parents { "true" } else { "false" });
        done(ask.bytes(self.data)).await
    }
}

asking!(WriteFile<'a>, write, ());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_of_a_guest_is_a_time() {
        assert_eq!(time(-1500), SystemTime::UNIX_EPOCH - Duration::from_millis(1500));
        assert_eq!(time(1500), SystemTime::UNIX_EPOCH + Duration::from_millis(1500));
        for ms in [i64::MIN, i64::MAX, 0] {
            let _ = time(ms);
        }
    }

    #[test]
    fn a_view_of_a_later_server_is_read() {
        let view = r#"{"name":"a","kind":"portal","size":1,"mode":"1777","modified_ms":0,"new":1}"#;
        let info = FileInfo::from(serde_json::from_str::<View>(view).unwrap());
        assert_eq!((info.kind, info.mode), (FileKind::Other, 0o1777));
    }
}
