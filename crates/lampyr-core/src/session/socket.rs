//! The socket of a session: who may speak with its owner.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "socket";

/// Opens the socket of the session in `dir`; only this user may connect.
pub(crate) fn listen(dir: &Path) -> io::Result<UnixListener> {
    let listener = listen_at(dir, NAME)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Opens a socket of that name in `dir`; only this user may connect.
pub(crate) fn listen_at(dir: &Path, name: &str) -> io::Result<net::UnixListener> {
    let reach = Reach::of(dir, name)?;
    let listener = net::UnixListener::bind(&reach.path)?;
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the owner of the session in `dir`.
pub(crate) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let reach = Reach::of(dir, NAME)?;
    UnixStream::connect(&reach.path).await
}

/// Connects to the socket of that name in `dir`.
pub(crate) fn reach(dir: &Path, name: &str) -> io::Result<net::UnixStream> {
    let reach = Reach::of(dir, name)?;
    net::UnixStream::connect(&reach.path)
}

/// Whether the other end is this user, or root.
pub(crate) fn is_ours(connection: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    connection.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

/// A path to the socket that is short enough for an address, however long the
/// directory's own is.
struct Reach {
    path: PathBuf,
    _dir: Option<std::fs::File>,
}

impl Reach {
    #[cfg(target_os = "linux")]
    fn of(dir: &Path, name: &str) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let dir = std::fs::File::open(dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
        Ok(Self { path, _dir: Some(dir) })
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    fn of(dir: &Path, name: &str) -> io::Result<Self> {
        Ok(Self { path: dir.join(name), _dir: None })
    }
}
