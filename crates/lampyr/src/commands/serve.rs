//! `lampyr serve`.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lampyr_server::{Access, Listener, Server, Settings};
use lampyr_store::Store;
use lampyr_types::NoProgress;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, UnixListener};

use crate::args::ServeArgs;
use crate::conceal::conceal;
use crate::core_api::Error;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::printer::Printer;
use crate::settings::{Layers, Place, ServeSettings};
use crate::wiring;

use super::session::owner;

/// Threads that serve; what takes long has threads of its own.
const THREADS: usize = 2;
/// The longest path of a socket that every system takes, in bytes.
const MAX_SOCKET: usize = 100;

/// Serves the native API until a signal comes, or the parent is gone.
pub(super) fn serve(
    args: &ServeArgs,
    layers: &Layers<'_>,
    printer: &Printer,
) -> Result<u8, Failure> {
    let ServeSettings { place, parent, defaults, host } = ServeSettings::resolve(args, layers)?;
    super::raise_file_limit()?;
    // What is asked may hold secrets.
    conceal();
    let home = host.home.clone();
    // The token and the socket lie in it.
    Store::open(&home).map_err(Error::from)?;
    let settings = Settings {
        host: wiring::host(host, Arc::new(NoProgress))?,
        owner: Box::new(move || {
            owner(&home, "session-owner").map_err(|e| io::Error::other(e.to_string()))
        }),
        defaults,
        limits: layers.world().limits(),
    };
    let threads =
        tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let runtime =
        threads.map_err(|source| Failure::System { what: "start the runtime", source })?;
    let served = runtime.block_on(perform(settings, place, parent, printer));
    // A thread that waits for our standard input must not keep us.
    runtime.shutdown_background();
    served
}

async fn perform(
    settings: Settings,
    place: Place,
    parent: bool,
    printer: &Printer,
) -> Result<u8, Failure> {
    let mut interrupt = Interrupt::listen().map_err(super::no_signals)?;
    let orphaned = parent.then(Parent::here);
    let opened = Opened::at(&place, &settings.host.home).await?;
    let server = Server::new(settings);
    printer.json(&opened.word)?;
    let mut status = 0;
    let over = async {
        tokio::select! {
            signal = interrupt.came() => status = signal,
            () = gone(orphaned) => {}
        }
    };
    server.serve(opened.listener, opened.access, over).await;
    server.stop_attached().await?;
    Ok(status)
}

/// A listener, and where it is.
struct Opened {
    listener: Listener,
    access: Access,
    /// What whoever started us wants to know.
    word: Value,
    _place: Gone,
}

/// A socket that goes with us, and a directory that it may lie in.
struct Gone {
    socket: Option<PathBuf>,
    _dir: Option<Box<dyn Send + Sync>>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = std::fs::remove_file(socket);
        }
    }
}

impl Opened {
    async fn at(place: &Place, home: &Path) -> Result<Self, Failure> {
        match place {
            Place::Port { address, token } => {
                let listen = |source| Failure::System { what: "listen on the port", source };
                let listener = TcpListener::bind(address).await.map_err(listen)?;
                let url = format!("http://{}", listener.local_addr().map_err(listen)?);
                let (mut word, mut access) = (json!({"url": url}), Access::Anyone);
                if *token {
                    let keep = |source| Failure::System { what: "keep a token", source };
                    access = Access::Token(lampyr_server::token(home).map_err(keep)?);
                    word["token_file"] = home.join("token").to_string_lossy().into();
                }
                let place = Gone { socket: None, _dir: None };
                Ok(Self { listener: Listener::Port(listener), access, word, _place: place })
            }
            Place::Socket(path) => Self::socket(path.clone(), None),
            Place::Private => {
                let (path, dir) = private(home)?;
                Self::socket(path, Some(dir))
            }
        }
    }

    fn socket(path: PathBuf, dir: Option<Box<dyn Send + Sync>>) -> Result<Self, Failure> {
        let failed = |source| Failure::System { what: "listen on the socket", source };
        remove_dead(&path).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let word = json!({"socket": path.to_string_lossy()});
        let place = Gone { socket: Some(path), _dir: dir };
        let listener = Listener::Socket(listener);
        Ok(Self { listener, access: Access::Anyone, word, _place: place })
    }
}

/// Removes a socket that nobody listens on any more, and nothing else.
fn remove_dead(path: &Path) -> io::Result<()> {
    let socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if !socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// A path for a socket in a fresh directory that this user alone can enter: in
/// the state directory, where `clean` finds it, unless its path is too long.
fn private(home: &Path) -> Result<(PathBuf, Box<dyn Send + Sync>), Failure> {
    let staging = Store::open(home).and_then(|store| store.stage()).map_err(Error::from)?;
    let path = staging.path().join("socket");
    if path.as_os_str().len() <= MAX_SOCKET {
        return Ok((path, Box::new(staging)));
    }
    let failed = |source| Failure::System { what: "make a directory for the socket", source };
    let dir = tempfile::Builder::new().prefix("lampyr-").tempdir().map_err(failed)?;
    Ok((dir.path().join("socket"), Box::new(dir)))
}

/// The process that started us.
struct Parent(Option<AsyncFd<OwnedFd>>);

impl Parent {
    fn here() -> Self {
        // SAFETY: the descriptor is the parent's own until it is dropped.
        let watch = |parent| unsafe { AsyncFd::register(parent) }.ok();
        Self(sys::parent().and_then(watch))
    }

    /// Waits until it has ended.
    async fn gone(self) {
        match self.0 {
            Some(parent) => drop(parent.readable().await),
            None => std::future::pending().await,
        }
    }
}

/// Waits until there is no parent any more: it has ended, or closed what it
/// held of our standard input. Either may be missed, since others may hold that
/// as well, and not every system tells of the first.
async fn gone(parent: Option<Parent>) {
    let Some(parent) = parent else { return std::future::pending().await };
    let mut bytes = [0; 512];
    let mut stdin = tokio::io::stdin();
    let closed = async { while stdin.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
    tokio::select! {
        () = parent.gone() => {}
        () = closed => {}
    }
}

#[cfg(target_os = "linux")]
mod sys {
    use std::os::fd::OwnedFd;

    use rustix::process::{PidfdFlags, getppid, pidfd_open};

    /// A descriptor that can be read once our parent has ended.
    pub(super) fn parent() -> Option<OwnedFd> {
        pidfd_open(getppid()?, PidfdFlags::empty()).ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::os::fd::OwnedFd;

    /// There is none; standard input has to do.
    pub(super) fn parent() -> Option<OwnedFd> {
        None
    }
}
