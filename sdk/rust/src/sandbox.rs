//! Sandboxes: virtual machines that run.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde::Deserialize;
use serde_json::json;
use tokio::runtime;

use crate::asking::asking;
use crate::error::{Error, ErrorKind, Failure};
use crate::exec::Exec;
use crate::files::{Fs, WriteFile};
use crate::http::{Ask, call, done, exists, route, send};
use crate::launch::start;
use crate::program::here;
use crate::server::{running, server};
use crate::snapshots::TakeSnapshot;

/// Bash where the sandbox has it.
const SHELL: [&str; 3] = ["/bin/sh", "-c", "exec \"$(command -v bash || command -v sh)\""];

/// What is known of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct SandboxInfo {
    /// Its id, which no other ever has.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// The image that it was started from.
    pub image: String,
    /// The snapshot that it was started from.
    pub snapshot: Option<String>,
    /// Its processors.
    pub cpus: u32,
    /// Its memory, in bytes.
    pub memory: u64,
    /// When it was started, as RFC 3339 has it.
    pub created: String,
    /// Whether it runs; else it has ended, and something of it is left.
    #[serde(rename = "status", deserialize_with = "is_running")]
    pub running: bool,
    /// Whether it ends with this process.
    pub attached: bool,
}

fn is_running<'de, D: serde::Deserializer<'de>>(status: D) -> Result<bool, D::Error> {
    String::deserialize(status).map(|status| status == "running")
}

/// A command that [`Sandbox::undo`] can take back.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct LogEntry {
    /// Its number, for [`Sandbox::undo_to`].
    pub index: u64,
    /// When it was run, as RFC 3339 has it.
    pub at: String,
    /// The command, the beginning of it where it is long.
    pub command: String,
}

/// Where a sandbox went back to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Undone {
    /// The number of the command before which it is now.
    pub undone_to: u64,
    /// How long it stood still, in milliseconds.
    pub pause_ms: f64,
}

/// How to remove something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    force: bool,
}

impl RemoveOptions {
    /// Only what nobody needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether also a sandbox that runs, or a snapshot and all that was built on
    /// it.
    #[must_use]
    pub fn force(self, force: bool) -> Self {
        Self { force }
    }

    pub(crate) fn is_forced(self) -> bool {
        self.force
    }
}

/// A handle on a sandbox.
///
/// Dropping the handle that [launched](crate::launch_sandbox) a sandbox, or a
/// fork, asks for its stop, without waiting for it and without a word where that
/// fails; [`stop`](Self::stop) waits and tells. What is still there when this
/// process ends, however it ends, is stopped by its server. One that was
/// [detached](Self::detach) or [connected to](crate::connect_to_sandbox) is left
/// alone.
///
/// What is dropped before it is done is broken off: a command ends.
pub struct Sandbox {
    info: SandboxInfo,
    owned: AtomicBool,
}

impl Sandbox {
    pub(crate) fn new(info: SandboxInfo, owned: bool) -> Self {
        Self { info, owned: owned.into() }
    }

    /// Its id, which no other ever has.
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// Its name; its id where it has none.
    pub fn name(&self) -> &str {
        self.info.name.as_deref().unwrap_or(self.id())
    }

    /// What was known of it when the handle was made.
    pub fn info(&self) -> &SandboxInfo {
        &self.info
    }

    /// What is known of it now.
    pub async fn inspect(&self) -> Result<SandboxInfo, Error> {
        call(Ask::get(self.route(""))).await
    }

    /// A program to run without a shell. Awaiting it runs it to its end.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), lampyr_sdk::Error> {
    /// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
    /// let out = sandbox.exec("tr").args(["a-z", "A-Z"]).stdin("quiet").await?;
    /// assert_eq!((out.code(), out.stdout().as_ref()), (0, "QUIET"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn exec(&self, cmd: impl Into<String>) -> Exec<'_> {
        Exec::program(self.id(), cmd.into())
    }

    /// A script to run, by `/bin/sh`. Awaiting it runs it to its end.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), lampyr_sdk::Error> {
    /// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
    /// let out = sandbox.shell("echo no >&2; exit 3").await?;
    /// assert_eq!((out.code(), out.stderr().as_ref()), (3, "no\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn shell(&self, script: impl Into<String>) -> Exec<'_> {
        Exec::script(self.id(), script.into())
    }

    /// Gives this process's terminal to a shell until it ends. Its exit code.
    pub async fn attach_shell(&self) -> Result<i32, Error> {
        server().await?.program.terminal(self.id(), &SHELL).await
    }

    /// Its files.
    pub fn fs(&self) -> Fs<'_> {
        Fs::new(self.id())
    }

    /// A file's bytes. The path is absolute.
    pub async fn read_file(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.fs().read(path).await
    }

    /// A file to write. The path is absolute. Awaiting it writes the file, which
    /// has its name once all of it is there.
    pub fn write_file(&self, path: impl Into<String>, data: impl Into<Vec<u8>>) -> WriteFile<'_> {
        self.fs().write(path, data)
    }

    /// Copies a file, or what is in a directory, from this host. `guest` is
    /// absolute; one that ends with `/` is a directory to put a file into.
    pub async fn copy_in(&self, host: impl AsRef<Path>, guest: &str) -> Result<(), Error> {
        let (from, to) = (here(host.as_ref())?, format!("{}:{guest}", self.id()));
        server().await?.program.copy(from, to.into()).await
    }

    /// Copies a file, or what is in a directory, to this host, likewise. Nothing
    /// is written outside of `host`, whatever the sandbox sends.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// sandbox.shell("mkdir /out; date > /out/date").await?;
    /// sandbox.copy_out("/out", folder).await?;
    /// sandbox.copy_in(folder.join("date"), "/back/").await?;
    /// assert_eq!(std::fs::read(folder.join("date"))?, sandbox.read_file("/back/date").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn copy_out(&self, guest: &str, host: impl AsRef<Path>) -> Result<(), Error> {
        let (from, to) = (format!("{}:{guest}", self.id()), here(host.as_ref())?);
        server().await?.program.copy(from.into(), to).await
    }

    /// A snapshot to take of it, disk and memory. Awaiting it takes it; the
    /// sandbox stands still meanwhile, and goes on.
    pub fn snapshot(&self, name: impl Into<String>) -> TakeSnapshot<'_> {
        TakeSnapshot::new(self.id(), name.into())
    }

    /// Copies to make of it, which go on from where it is now, as it does.
    /// Awaiting it makes them.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), lampyr_sdk::Error> {
    /// # let sandbox = lampyr_sdk::launch_sandbox(lampyr_sdk::LaunchOptions::new("agent")).await?;
    /// sandbox.write_file("/root/draft", "shared\n").await?;
    /// for (number, fork) in sandbox.fork(2).await?.iter().enumerate() {
    ///     let out = fork.shell(format!("echo {number} >> /root/draft; cat /root/draft")).await?;
    ///     assert_eq!(out.stdout(), format!("shared\n{number}\n"));
    /// }
    /// assert_eq!(sandbox.read_file("/root/draft").await?, b"shared\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn fork(&self, count: u32) -> Fork<'_> {
        Fork { sandbox: self.id(), count, with_secrets: false }
    }

    /// The commands that it can go back to the time before, the oldest first.
    pub async fn log(&self) -> Result<Vec<LogEntry>, Error> {
        call(Ask::get(self.route("/log"))).await
    }

    /// Goes back to before the last command. It must have been launched with
    /// [`checkpoints`](crate::LaunchOptions::checkpoints).
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), lampyr_sdk::Error> {
    /// use lampyr_sdk::{LaunchOptions, launch_sandbox};
    ///
    /// let sandbox = launch_sandbox(LaunchOptions::new("agent").checkpoints(8)).await?;
    /// sandbox.shell("rm -rf /usr /root").await?;
    /// sandbox.undo().await?;
    /// assert!(sandbox.exec("ls").arg("/usr/bin").await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn undo(&self) -> Result<Undone, Error> {
        call(Ask::post(self.route("/undo"))).await
    }

    /// Goes back to before the command of this number, as the
    /// [log](Self::log) has it.
    pub async fn undo_to(&self, index: u64) -> Result<Undone, Error> {
        call(Ask::post(self.route("/undo")).json(&json!({"to": index}))?).await
    }

    /// Lets it outlive this process, and this handle.
    pub async fn detach(&self) -> Result<(), Error> {
        done(Ask::post(self.route("/detach"))).await?;
        self.owned.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Stops it, and waits until nothing of it is left; it may have ended. What
    /// runs in it has some seconds to end.
    pub async fn stop(self) -> Result<(), Error> {
        unless_missing(done(Ask::delete(self.route(""))).await)?;
        self.owned.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Stops it without giving what runs in it any time.
    pub async fn kill(self) -> Result<(), Error> {
        unless_missing(done(end(self.id())).await)?;
        self.owned.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn route(&self, rest: &str) -> String {
        route("sandboxes", self.id(), rest)
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Drop for Sandbox {
    /// In a thread: there may be no runtime, or one that is ending.
    fn drop(&mut self) {
        if !self.owned.load(Ordering::Relaxed) {
            return;
        }
        let ask = end(self.id());
        let work = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            drop(runtime.map(|runtime| runtime.block_on(end_quietly(ask))));
        };
        drop(thread::Builder::new().name("lampyr".into()).spawn(work));
    }
}

/// Where the server is gone, so is the sandbox.
async fn end_quietly(ask: Ask) {
    if let Some(server) = running().await
        && let Ok(mut answer) = send(&server, ask).await
    {
        while let Ok(Some(_)) = answer.piece().await {}
    }
}

fn end(sandbox: &str) -> Ask {
    Ask::delete(route("sandboxes", sandbox, "")).query("force", "true")
}

/// Forks to be made; see [`Sandbox::fork`]. Where the future is dropped before
/// they are, they are stopped as soon as they run.
#[derive(Debug)]
#[must_use = "it is made once it is awaited"]
pub struct Fork<'a> {
    sandbox: &'a str,
    count: u32,
    with_secrets: bool,
}

impl Fork<'_> {
    /// Whether also a sandbox that has secrets is forked. The forks have none.
    pub fn with_secrets(self, with_secrets: bool) -> Self {
        Self { with_secrets, ..self }
    }

    async fn make(self) -> Result<Vec<Sandbox>, Error> {
        let asked = json!({"count": self.count, "with_secrets": self.with_secrets});
        let ask = Ask::post(route("sandboxes", self.sandbox, "/fork")).json(&asked)?;
        start(async {
            let Forked { sandboxes } = call(ask).await?;
            Ok(sandboxes.into_iter().map(|info| Sandbox::new(info, true)).collect())
        })
        .await
    }
}

asking!(Fork<'a>, make, Vec<Sandbox>);

#[derive(Deserialize)]
struct Forked {
    sandboxes: Vec<SandboxInfo>,
}

/// All sandboxes that there are, the oldest first.
pub async fn list_sandboxes() -> Result<Vec<SandboxInfo>, Error> {
    call(Ask::get("/v1/sandboxes")).await
}

/// Whether there is a sandbox of this name or id that runs.
pub async fn sandbox_exists(name: &str) -> Result<bool, Error> {
    match exists(Ask::get(route("sandboxes", name, ""))).await {
        Err(e) if e.failure().status() == Some(GONE) => Ok(false),
        known => known,
    }
}

/// The status of a sandbox that has ended.
const GONE: u16 = 410;

/// Removes what is left of a sandbox, by its name or id; it may be gone. One
/// that runs is stopped with `force`, and else an error.
pub async fn remove_sandbox(name: &str, options: RemoveOptions) -> Result<(), Error> {
    if !options.force && sandbox_exists(name).await? {
        let running = Failure::new(format!("sandbox '{name}' is running"));
        return Err(running.hint_at("stop it, or remove it with force").of(ErrorKind::Usage));
    }
    unless_missing(done(end(name)).await)
}

pub(crate) fn unless_missing(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(e) if e.is_missing() => Ok(()),
        removed => removed,
    }
}
