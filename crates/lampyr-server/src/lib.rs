//! The native HTTP API: every use-case of the core is a route under `/v1`.
//!
//! Like the command line this is a skin: it reads requests, calls the core and
//! tells what came of it. It knows no engine, and no sandbox depends on it.

mod access;
mod answer;
mod app;
mod ask;
mod builds;
mod error;
mod exec;
mod files;
mod forks;
mod images;
mod listen;
mod metrics;
mod output;
mod registry;
mod routes;
mod sandboxes;
mod snapshots;
mod socket;
mod token;
mod undo;
mod volumes;

use std::io;
use std::sync::Arc;

use lampyr_core::limits::Limits;
use lampyr_core::{Error, HostSettings};
use lampyr_types::Size;

pub use access::Access;
pub use listen::Listener;
pub use routes::openapi;
pub use token::token;

use app::App;

/// What a sandbox has that nobody says anything else of.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// The image whose disk it starts with.
    pub origin: lampyr_core::Origin,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Size,
    /// The size of its root disk.
    pub disk_size: Size,
    /// How much of each output stream an answer keeps, in bytes.
    pub max_output: usize,
}

/// Makes the command that owns a session: see [`lampyr_core::start_session`].
pub type Owner = Box<dyn Fn() -> io::Result<std::process::Command> + Send + Sync>;

/// What a server is made of.
pub struct Settings {
    /// The host; it is opened when a sandbox is first asked for.
    pub host: HostSettings,
    /// What will own sandboxes.
    pub owner: Owner,
    /// What nobody says anything else of.
    pub defaults: Defaults,
    /// What this host has to give.
    pub limits: Limits,
}

/// A server. Sandboxes that are attached to it end with this process, however
/// that ends.
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// A server that serves nobody yet.
    pub fn new(settings: Settings) -> Self {
        Self { app: Arc::new(App::new(settings)) }
    }

    /// Serves whoever comes to `listener` and has `access`, until `over`.
    pub async fn serve(&self, listener: Listener, access: Access, over: impl Future<Output = ()>) {
        let router = routes::router(self.app.clone(), access);
        tokio::select! {
            () = listener.serve(router) => {}
            () = over => {}
        }
    }

    /// Stops every sandbox that was not detached, and waits until they are gone.
    pub async fn stop_attached(&self) -> Result<(), Error> {
        self.app.stop_attached().await
    }
}
