//! What Lampyr does, as functions: run, bake, clean, diagnose.
//!
//! Nothing in here prints, reads the environment or ends the process; nothing
//! in here knows which engine it drives.

mod accel;
pub mod capture;
mod channel;
mod clean;
mod create;
mod doctor;
mod error;
mod exec;
mod files;
mod fingerprint;
mod forward;
mod host;
mod images;
mod measure;
mod memory;
mod mount;
mod network;
mod pool;
mod private;
mod random;
mod run;
mod sandbox;
mod session;
mod template;
mod trace;
mod volume;
mod wish;

/// What a VM may reach.
pub use lampyr_net::{
    Access, BadFile, BadPeerName, BadPolicy, BadSecret, Domain, MAX_FILE as MAX_POLICY_FILE,
    MAX_PEERS, Peer, Policy, Private, Rule, Secret, USUAL_HEADER, document, peer_name, read_policy,
};
/// Signals and window sizes for a command, and what it did on the network.
pub use lampyr_proto::{Control, Denied, NetUse, Window};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use lampyr_engine::MachineSpec;
use lampyr_image::ImageRef;
use lampyr_types::{Size, Span};

use template::Shape;

pub use clean::{Cleaned, CleanedItem, clean};
pub use create::{CreateRequest, create_image};
pub use doctor::{Check, Report, Severity, doctor};
pub use error::{Error, RunError};
pub use forward::Forward;
pub use host::{AccelChoice, Engines, Host, HostSettings};
pub use images::{
    image, images, import_image, load_images, prune_images, pull_image, push_image, remove_image,
    save_image,
};
pub use measure::{ColdBoot, Launched, claim, cold_boot, launch, plain_boot};
pub use mount::{Mount, MountSource};
pub use pool::{
    Batch, MemberWord, PoolMachine, PoolMemberRequest, PoolRecord, PoolRequest, keep_pool,
    own_member, pools, run_batch, start_pool, stop_pool,
};
pub use private::{PeerRecord, PrivateNetwork, private_network, private_networks};
pub use run::run;
pub use session::{
    ExecRequest, OwnerReply, SessionClient, SessionRecord, SessionRequest, SessionState, Stopped,
    Vitals, own_session, session_id, sessions, start_session, stop_session,
};
pub use trace::Trace;
pub use volume::Volume;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/bin/sh -c` of this text.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// A file or directory that goes into the VM before the command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyIn {
    /// Where it is on this host.
    pub local: PathBuf,
    /// Where it goes, absolute.
    pub remote: String,
}

/// A file or directory that is fetched after the command has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOut {
    /// Where it is in the VM, absolute.
    pub remote: String,
    /// Where it goes on this host.
    pub local: PathBuf,
}

/// One disposable VM and one command in it.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The image whose disk the VM starts with.
    pub image: ImageRef,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory.
    pub memory: Size,
    /// The size of the root disk.
    pub disk_size: Size,
    /// What to run; what the image says, if there is none.
    pub command: Option<Command>,
    /// Environment variables, over the image's and the default ones.
    pub env: Vec<(String, String)>,
    /// The working directory in the VM; where there is none, the image's, else
    /// the user's home.
    pub workdir: Option<String>,
    /// How long the command may run.
    pub timeout: Span,
    /// What goes in first.
    pub copy_in: Vec<CopyIn>,
    /// What is fetched at the end.
    pub copy_out: Vec<CopyOut>,
    /// Whether the command reads our standard input.
    pub stdin: bool,
    /// Ports that lead into the VM for as long as the command runs.
    pub forwards: Vec<Forward>,
    /// What of this host the VM sees.
    pub mounts: Vec<Mount>,
    /// What it may reach; without that it has no network card.
    pub net: Option<Access>,
}

impl RunRequest {
    fn shape(&self) -> Shape {
        let network = self.net.is_some();
        let spec = MachineSpec { cpus: self.cpus, memory: self.memory.as_bytes(), network };
        Shape { spec, disk: self.disk_size }
    }
}

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Somebody who takes a command's output as it comes.
pub trait Output: Send {
    /// Takes some bytes. An error ends the run.
    fn write(&mut self, stream: OutputStream, bytes: &[u8]) -> std::io::Result<()>;

    /// Waits until it can take more. Nothing is written before; whoever is
    /// slow here slows the command, and no time limit.
    fn room(&mut self) -> Room<'_> {
        Box::pin(std::future::ready(()))
    }
}

/// A wait for room.
pub type Room<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// How a command that ran to its end ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its exit code; 128+n where signal n ended it.
    pub exit_code: i32,
    /// Host wall-clock from the request until its end was known.
    pub duration: Duration,
    /// What it used.
    pub usage: Usage,
}

/// What a command used, as far as the guest told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in milliseconds.
    pub cpu_ms: Option<u64>,
    /// The largest resident memory of any one of its processes, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// The guest's kernel killed something for want of memory.
    pub oom: bool,
    /// It was refused a process because there were too many.
    pub pids_limit: bool,
    /// Something it started still held its output open when it ended.
    pub left_running: bool,
    /// What its processes had read from the VM's disks, in bytes.
    pub read_bytes: Option<u64>,
    /// What its processes wrote to the VM's disks, in bytes.
    pub write_bytes: Option<u64>,
    /// It failed, and the VM's root disk had no free block at its end.
    pub disk_full: bool,
    /// From spawn to exit as the agent saw it, in microseconds.
    pub guest_wall_us: u64,
    /// What went over the network, where the machine has one.
    pub net: Option<Box<NetUse>>,
}
