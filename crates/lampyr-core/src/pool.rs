//! Pools: machines that were restored and warmed before anybody wants them.
//!
//! A member is one such machine, at rest, with a process of its own that owns
//! it as a session's owner does. Whoever connects to its socket first is given
//! the connection to the guest's agent and makes it somebody; when that
//! claimant is gone, so is the member. A keeper holds a number of members
//! ready and ends those that nobody claimed when it goes itself.

mod batch;
mod claim;
mod handover;
mod keeper;
mod member;
mod members;
mod record;
mod stock;
mod warm;

use lampyr_engine::MachineSpec;
use lampyr_types::Size;
use serde::{Deserialize, Serialize};

use crate::Origin;
use crate::template::Shape;

pub use batch::{Batch, run_batch};
pub(crate) use claim::claim;
pub use keeper::{keep_pool, start_pool, stop_pool};
pub use member::{MemberWord, PoolMemberRequest, own_member};
pub use record::{PoolRecord, pools};
pub(crate) use record::{is_held, is_waiting};

/// A pool to start, as its keeper is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRequest {
    /// The machines in it.
    pub machine: PoolMachine,
    /// How many of them are held ready.
    pub size: u32,
    /// After so many milliseconds in which nobody claims one it ends.
    pub ttl_ms: Option<u64>,
}

/// What the machines of a pool are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolMachine {
    /// What they start as.
    pub origin: Origin,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// The size of the root disk in bytes.
    pub disk_size: u64,
}

impl PoolMachine {
    fn shape(&self) -> Shape {
        let spec = MachineSpec { cpus: self.cpus, memory: self.memory, network: false };
        Shape { spec, disk: Size::bytes(self.disk_size) }
    }
}
