//! Where requests come in. What a client may cost is bounded here: how many
//! there are, how long one may take to say what it wants, how long that is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Clients that are connected at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// How long whoever comes by a port may take to send a request's head, and may
/// be silent between two.
const HEAD_WAIT: Duration = Duration::from_mins(1);
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Where requests come in.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Port(TcpListener),
    /// A socket that this user alone can connect to.
    Socket(UnixListener),
}

/// A client.
enum Client {
    Port(TcpStream),
    Socket(UnixStream),
}

impl Listener {
    /// Serves clients for as long as it is polled. Dropped, it lets go of them.
    pub(crate) async fn serve(&self, router: Router) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut clients = JoinSet::new();
        loop {
            let Ok(seat) = room.clone().acquire_owned().await else { return };
            match self.accept().await {
                Ok(client) => {
                    let router = router.clone();
                    clients.spawn(async move {
                        client.serve(router).await;
                        drop(seat);
                    });
                }
                // Out of descriptors: some come back when a client goes.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            while clients.try_join_next().is_some() {}
        }
    }

    async fn accept(&self) -> io::Result<Client> {
        match self {
            Self::Port(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Client::Port(stream))
            }
            Self::Socket(listener) => Ok(Client::Socket(listener.accept().await?.0)),
        }
    }
}

impl Client {
    async fn serve(self, router: Router) {
        match self {
            Self::Port(stream) => talk(stream, router, Some(HEAD_WAIT)).await,
            Self::Socket(stream) if is_ours(&stream) => talk(stream, router, None).await,
            Self::Socket(_stranger) => {}
        }
    }
}

/// A client that breaks off or a rule is a client that is gone.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    head_wait: Option<Duration>,
) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_wait).max_buf_size(MAX_HEAD);
    let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// Whether the other end is this user, or root.
fn is_ours(stream: &UnixStream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}
