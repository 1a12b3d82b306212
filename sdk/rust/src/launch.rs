//! Launching sandboxes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::oneshot;

use crate::config::Resources;
use crate::error::Error;
use crate::http::{Ask, broken, call, route};
use crate::sandbox::{Sandbox, SandboxInfo};
use crate::say::say;

/// How a sandbox is launched: from a snapshot, from an image, or from Lampyr's
/// own image where neither is said.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{LaunchOptions, Mount, Resources, launch_sandbox};
///
/// let options = LaunchOptions::new("agent")
///     .resources(Resources::new().cpus(1).memory("512M"))
///     .env("MODE", "test")
///     .workdir("/data")
///     .mount("/data", Mount::directory("/usr/share/doc").readonly());
/// let sandbox = launch_sandbox(options).await?;
/// let out = sandbox.shell("echo $MODE in $PWD with $(nproc); touch here").await?;
/// assert_eq!(out.stdout(), "test in /data with 1\n");
/// assert!(out.stderr().contains("Read-only file system"));
/// sandbox.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    asked: Asked,
    verbose: bool,
}

/// A sandbox as the server takes it.
#[derive(Debug, Clone, Default, Serialize)]
struct Asked {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(flatten)]
    resources: Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_size: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
    env: BTreeMap<String, String>,
    ports: BTreeMap<u16, u16>,
    mounts: BTreeMap<String, Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
    secrets: BTreeMap<String, Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    checkpoints: u32,
    overwrite: bool,
}

#[derive(Debug, Clone, Default, Serialize)]
struct Policy {
    rules: Vec<String>,
}

impl LaunchOptions {
    /// A sandbox of this name.
    pub fn new(name: impl Into<String>) -> Self {
        let asked = Asked { name: name.into(), overwrite: true, ..Asked::default() };
        Self { asked, verbose: false }
    }

    fn with(mut self, say: impl FnOnce(&mut Asked)) -> Self {
        say(&mut self.asked);
        self
    }

    /// The snapshot to start from; either this or an image.
    #[must_use]
    pub fn snapshot(self, name: impl Into<String>) -> Self {
        self.with(|asked| asked.snapshot = Some(name.into()))
    }

    /// The image to start from: a registry's, or one that is here.
    #[must_use]
    pub fn image(self, image: impl Into<String>) -> Self {
        self.with(|asked| asked.image = Some(image.into()))
    }

    /// Its size. A snapshot has a size already, and no other is possible.
    #[must_use]
    pub fn resources(self, resources: Resources) -> Self {
        self.with(|asked| asked.resources = resources)
    }

    /// The size of its disk, as in `"8G"`.
    #[must_use]
    pub fn disk_size(self, size: impl Into<String>) -> Self {
        self.with(|asked| asked.disk_size = Some(size.into()))
    }

    /// Where commands start that say nothing else, absolute.
    #[must_use]
    pub fn workdir(self, workdir: impl Into<String>) -> Self {
        self.with(|asked| asked.workdir = Some(workdir.into()))
    }

    /// An environment variable of all commands.
    #[must_use]
    pub fn env(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|asked| drop(asked.env.insert(key.into(), value.into())))
    }

    /// A port of 127.0.0.1 here that leads to a port of the sandbox's.
    #[must_use]
    pub fn port(self, host: u16, guest: u16) -> Self {
        self.with(|asked| asked.ports.extend([(host, guest)]))
    }

    /// What of this host it sees at `place`, an absolute path of its own.
    #[must_use]
    pub fn mount(self, place: impl Into<String>, what: Mount) -> Self {
        self.with(|asked| drop(asked.mounts.insert(place.into(), what)))
    }

    /// What it may reach, as a rule: `"api.example.com:443"`, or `"public"` for
    /// the internet. Without a rule it has no network.
    #[must_use]
    pub fn net(self, rule: impl Into<String>) -> Self {
        self.with(|asked| asked.policy.get_or_insert_default().rules.push(rule.into()))
    }

    /// A value that its requests to one host get on their way out. What is in
    /// the environment variable is a placeholder.
    #[must_use]
    pub fn secret(self, variable: impl Into<String>, secret: Secret) -> Self {
        self.with(|asked| drop(asked.secrets.insert(variable.into(), secret)))
    }

    /// It ends after this long without a command or a client.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|asked| asked.ttl = Some(span(ttl)))
    }

    /// Points to go back to by [`undo`](Sandbox::undo): one before each command,
    /// at most so many.
    #[must_use]
    pub fn checkpoints(self, most: u32) -> Self {
        self.with(|asked| asked.checkpoints = most)
    }

    /// Whether an earlier sandbox of the name is stopped first, which it is where
    /// nothing is said; else it is an error.
    #[must_use]
    pub fn overwrite(self, overwrite: bool) -> Self {
        self.with(|asked| asked.overwrite = overwrite)
    }

    /// Whether a line on standard error says that it is launched.
    #[must_use]
    pub fn verbose(self, verbose: bool) -> Self {
        Self { verbose, ..self }
    }
}

/// A span of time as the server takes it; not less than was said.
pub(crate) fn span(span: Duration) -> String {
    format!("{}ms", span.as_nanos().div_ceil(1_000_000))
}

/// What a sandbox sees of this host: a directory, or a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volume: Option<String>,
    readonly: bool,
}

impl Mount {
    /// A directory of this host; a relative path starts at where this process is
    /// now.
    pub fn directory(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        // The server says of a path that is none that it is none.
        let directory = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self { directory: Some(directory), volume: None, readonly: false }
    }

    /// A volume, which is made on first use and outlives the sandbox.
    pub fn volume(name: impl Into<String>) -> Self {
        Self { directory: None, volume: Some(name.into()), readonly: false }
    }

    /// Nothing in it can be changed.
    #[must_use]
    pub fn readonly(self) -> Self {
        Self { readonly: true, ..self }
    }
}

/// A value that requests to one host get on their way out, and that the sandbox
/// never has.
#[derive(Clone, Serialize)]
pub struct Secret {
    host: String,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<String>,
}

impl Secret {
    /// A value for a host, which a rule of `net` must open.
    pub fn new(host: impl Into<String>, value: impl Into<String>) -> Self {
        Self { host: host.into(), value: value.into(), header: None }
    }

    /// The header that it goes into; `authorization` where it is left out.
    #[must_use]
    pub fn header(self, header: impl Into<String>) -> Self {
        Self { header: Some(header.into()), ..self }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, header, .. } = self;
        f.debug_struct("Secret").field("host", host).field("header", header).finish_non_exhaustive()
    }
}

/// Launches a sandbox from a snapshot, or from an image.
///
/// It ends with this process, however that ends, and when its handle is dropped,
/// unless it is [detached](Sandbox::detach). Where the future is dropped before
/// it is done, the sandbox is stopped as soon as it runs.
pub async fn launch_sandbox(options: LaunchOptions) -> Result<Sandbox, Error> {
    let LaunchOptions { asked, verbose } = options;
    if verbose {
        say(&format!("[lampyr] launching {}\n", asked.name));
    }
    let ask = Ask::post("/v1/sandboxes").json(&asked)?;
    start(async { Ok(Sandbox::new(call::<SandboxInfo>(ask).await?, true)) }).await
}

/// Does what starts sandboxes. They start whether or not anybody waits; handles
/// that nobody takes are dropped, and stop them.
pub(crate) async fn start<T: Send + 'static>(
    starting: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let (tell, started) = oneshot::channel();
    tokio::spawn(async move { drop(tell.send(starting.await)) });
    started.await.map_err(broken)?
}

/// Launches a sandbox, calls `work` with it, and stops it, also when `work`
/// fails or panics. Gives what `work` gave.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), lampyr_sdk::Error> {
/// use lampyr_sdk::{Error, LaunchOptions, run_in_sandbox};
///
/// let answer = run_in_sandbox(LaunchOptions::new("agent"), async |sandbox| {
///     sandbox.write_file("/root/question", "6 * 7").await?;
///     let out = sandbox.shell("python3 -c \"print($(cat question))\"").cwd("/root").await?;
///     Ok::<_, Error>(out.stdout().trim().to_owned())
/// });
/// assert_eq!(answer.await?, "42");
/// # Ok(())
/// # }
/// ```
pub async fn run_in_sandbox<T, E: From<Error>>(
    options: LaunchOptions,
    work: impl AsyncFnOnce(&Sandbox) -> Result<T, E>,
) -> Result<T, E> {
    let sandbox = launch_sandbox(options).await?;
    let worked = work(&sandbox).await;
    let stopped = sandbox.stop().await;
    let given = worked?;
    stopped?;
    Ok(given)
}

/// A handle on a sandbox that was launched before, also by another process, by
/// its name or id. Dropping the handle does not end it.
pub async fn connect_to_sandbox(name: &str) -> Result<Sandbox, Error> {
    let info = call(Ask::get(route("sandboxes", name, ""))).await?;
    Ok(Sandbox::new(info, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_asked_is_what_the_server_takes() {
        let options = LaunchOptions::new("a")
            .snapshot("s")
            .resources(Resources::new().cpus(2).memory("1G"))
            .port(8080, 80)
            .mount("/v", Mount::volume("cache").readonly())
            .mount("/d", Mount::directory("/usr/../etc"))
            .net("a.example")
            .net("b.example:1")
            .secret("TOKEN", Secret::new("a.example", "hush"))
            .ttl(Duration::from_micros(1_500_001))
            .overwrite(false);
        let asked = json!({
            "name": "a", "snapshot": "s", "cpus": 2, "memory": "1G", "env": {},
            "ports": {"8080": 80}, "policy": {"rules": ["a.example", "b.example:1"]},
            "mounts": {
                "/v": {"volume": "cache", "readonly": true},
                "/d": {"directory": "/usr/../etc", "readonly": false},
            },
            "secrets": {"TOKEN": {"host": "a.example", "value": "hush"}},
            "ttl": "1501ms", "checkpoints": 0, "overwrite": false,
        });
        assert_eq!(serde_json::to_value(&options.asked).unwrap(), asked);
        assert!(!format!("{options:?}").contains("hush"));
    }

    #[tokio::test]
    async fn what_is_started_ends_where_nobody_waits() {
        let (go_on, going) = oneshot::channel::<()>();
        let (handle, ended) = oneshot::channel::<()>();
        let starting = start(async move {
            going.await.map_err(broken)?;
            Ok(handle)
        });
        let early = tokio::time::timeout(Duration::ZERO, starting).await;
        assert!(early.is_err() && !go_on.is_closed());
        go_on.send(()).unwrap();
        assert!(ended.await.is_err());
    }

    #[test]
    fn a_directory_is_relative_to_where_this_process_is() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Mount::directory("src"), Mount::directory(here.join("src")));
    }
}
