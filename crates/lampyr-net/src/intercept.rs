//! Connections to hosts that have a secret, and to no others: TLS ends here
//! and begins anew, and what is said in between is HTTP/1.1, or a WebSocket
//! that has begun as such.
//!
//! ```text
//! the guest ==TLS, by our authority==> Exchange ==TLS, by the host's roots==> the server
//!                                      placeholders become values -->
//!                                      <-- values become blots
//! ```

mod authority;
mod basic;
mod end;
mod exchange;
mod fields;
mod frames;
mod handshake;
mod mask;
mod pattern;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::domain::Domain;
use crate::ledger::Denied;
use crate::policy::Reason;
use crate::secret::Secret;
use crate::shared::Shared;
use authority::{ALPN, Authority};
use exchange::{Exchange, excuse};
use pattern::{Values, values};

/// The most of them at once.
const MOST: usize = 64;
/// How long a server may take to agree on its keys.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a guest may, whose processor may be an emulated one.
const PATIENCE_WITH_GUEST: Duration = Duration::from_mins(1);
/// How much is on its way between a stream and what intercepts it.
const BUFFER: usize = 32 << 10;

/// All that it takes to stand between a guest and the hosts of its secrets.
pub(crate) struct Interceptor {
    secrets: Arc<[Secret]>,
    values: Values,
    authority: Authority,
    /// Made when it is first wanted: it reads all that the host trusts.
    client: OnceLock<Result<Arc<ClientConfig>, rustls::Error>>,
    room: Arc<Semaphore>,
}

impl Interceptor {
    /// One for these secrets; `None` where there are none.
    pub(crate) fn new(secrets: &[Secret]) -> io::Result<Option<Self>> {
        if secrets.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            authority: Authority::for_hosts(secrets.iter().map(Secret::host))?,
            values: values(secrets),
            secrets: secrets.into(),
            client: OnceLock::new(),
            room: Arc::new(Semaphore::new(MOST)),
        }))
    }

    /// Reads all that the host trusts, while that can be read. Where it cannot,
    /// whoever wants it hears why.
    pub(crate) fn make_ready(&self) {
        let _ = self.client.get_or_init(client);
    }

    /// Whom the guest is to trust, as PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority.pem
    }

    /// Whether there is a secret for this host.
    pub(crate) fn is_for(&self, host: &Domain) -> bool {
        self.secrets.iter().any(|secret| secret.host() == host)
    }

    /// Comes between a guest and `server`, to which it has connected as `host`.
    /// Returns the guest's end.
    pub(crate) fn begin(
        self: &Arc<Self>,
        host: &Domain,
        there: SocketAddr,
        server: TcpStream,
        shared: &Arc<Shared>,
    ) -> Result<DuplexStream, Reason> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| Reason::TooMany)?;
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let (own, host, shared) = (self.clone(), host.clone(), shared.clone());
        tokio::spawn(async move { own.stand(host, there, server, theirs, &shared, room).await });
        Ok(ours)
    }

    /// Who cannot speak to either end is gone, and both ends see that.
    async fn stand(
        &self,
        host: Domain,
        there: SocketAddr,
        server: TcpStream,
        guest: DuplexStream,
        shared: &Shared,
        _room: OwnedSemaphorePermit,
    ) {
        let real = self.connect(&host, server).await;
        let accepting = TlsAcceptor::from(self.authority.server.clone()).accept(guest);
        let Ok(Ok(guest)) = timeout(PATIENCE_WITH_GUEST, accepting).await else { return };
        match real {
            Ok(real) => {
                let (secrets, values) = (self.secrets.clone(), self.values.clone());
                let _ = Exchange { host, secrets, values }.serve(guest, real).await;
            }
            Err(e) => {
                let name = Some(host.to_string());
                shared.deny(Denied::connection(there, name, "tcp", Reason::Untrusted));
                excuse(guest, &format!("{host} is not who it should be: {e}")).await;
            }
        }
    }

    async fn connect(&self, host: &Domain, server: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let client = self.client.get_or_init(client).clone().map_err(io::Error::other)?;
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let connecting = TlsConnector::from(client).connect(name, server);
        timeout(PATIENCE, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

/// Whether this host has what it takes to verify a server.
pub(crate) fn can_verify() -> Result<(), rustls::Error> {
    client().map(drop)
}

/// A client that trusts whom this host trusts.
fn client() -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut client = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(client))
}

impl std::fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interceptor").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}
