//! Sessions: machines that stay, each with one process that owns it.

mod answer;
mod client;
mod clock;
mod files;
mod job;
mod keep;
mod life;
mod owner;
mod record;
mod relay;
pub(crate) mod socket;
pub(crate) mod start;

use crate::{Access, Forward, Mount, Origin};
use lampyr_engine::MachineSpec;
use lampyr_types::{Name, Size};
use serde::{Deserialize, Serialize};

pub use client::{ExecRequest, SessionClient, Stopped, Vitals, stop_session};
pub use files::FilePut;
pub use owner::own_session;
pub(crate) use owner::until;
pub(crate) use record::bury;
pub use record::{SessionRecord, SessionState, session_id, sessions};
pub use start::{Leash, OwnerReply, prepare_session, start_attached, start_session};

/// A session to start, as its owner is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// What to call it.
    pub name: Option<Name>,
    /// What it starts as.
    pub origin: Origin,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the root disk in bytes.
    pub disk_size: u64,
    /// Environment variables of everything that runs in it.
    pub env: Vec<(String, String)>,
    /// The working directory of what runs in it and has none of its own; the
    /// image's if there is none.
    #[serde(default)]
    pub workdir: Option<String>,
    /// It ends with the process that started it, unless it is detached before.
    #[serde(default)]
    pub attached: bool,
    /// After so many milliseconds in which nobody wants anything it ends.
    pub ttl_ms: Option<u64>,
    /// Ports that lead into it.
    pub forwards: Vec<Forward>,
    /// What of this host it sees.
    pub mounts: Vec<Mount>,
    /// What it may reach; without that it has no network card.
    pub net: Option<Access>,
    /// Before how many of the last commands it is remembered what it was.
    #[serde(default)]
    pub checkpoints: u32,
    /// Others start at the same time, on the same processors.
    #[serde(default)]
    pub crowd: bool,
}

impl SessionRequest {
    fn spec(&self) -> MachineSpec {
        let network = self.net.is_some();
        MachineSpec { cpus: self.cpus, memory: self.memory, network }
    }

    fn disk(&self) -> Size {
        Size::bytes(self.disk_size)
    }
}
