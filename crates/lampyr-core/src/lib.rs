//! What Lampyr does, as functions: run, bake, clean, diagnose.
//!
//! Nothing in here prints, reads the environment or ends the process; nothing
//! in here knows which engine it drives.

mod accel;
mod build;
pub mod capture;
mod channel;
mod clean;
mod copy;
mod create;
mod doctor;
pub mod envelope;
mod error;
mod exec;
mod files;
mod fingerprint;
mod fork;
mod forward;
mod host;
mod images;
pub mod limits;
mod measure;
mod memory;
mod mount;
mod network;
mod origin;
mod pool;
mod private;
mod random;
mod run;
mod sandbox;
mod session;
mod snapshot;
mod template;
mod trace;
mod verify;
mod volume;
mod wish;

/// What a VM may reach.
pub use lampyr_net::{
    Access, BadFile, BadPeerName, BadPolicy, BadSecret, Domain, MAX_FILE as MAX_POLICY_FILE,
    MAX_PEERS, Peer, Policy, Private, Rule, Secret, Suggestion, USUAL_HEADER, document, peer_name,
    read_policy,
};
/// The process that a VM's network is, and the program that becomes it.
pub use lampyr_net::{Program as NetworkProgram, be_network};
/// Signals and window sizes for a command, and what it did on the network.
pub use lampyr_proto::{Control, Denied, NetUse, Point, Window};
/// What is known of a guest's file.
pub use lampyr_proto::{FileFacts, FileKind};
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use lampyr_engine::MachineSpec;
use lampyr_types::{Size, Span};

use template::Shape;

pub use build::{
    BadConfig, BuildDefaults, BuildOptions, BuildOutput, BuildPlan, Built, Resources, SetupStep,
    SnapshotConfig, StepEnd, build_snapshot, read_config, schema as snapshot_schema,
};
pub use clean::{Cleaned, CleanedItem, clean};
pub use create::{CreateRequest, create_image};
pub use doctor::{Check, Report, Severity, doctor};
pub use error::{Error, FileFault, RunError};
pub use fork::{ForkRequest, Forked, fork};
pub use forward::Forward;
pub use host::{AccelChoice, Engines, Host, HostSettings};
pub use images::{
    image, images, import_image, load_images, prune_images, pull_image, push_image, remove_image,
    save_image,
};
pub use measure::{
    Booted, ColdBoot, Launched, boot_on_own_network, claim, cold_boot, launch, plain_boot,
};
pub use mount::{Mount, MountSource};
pub use origin::Origin;
pub use pool::{
    Batch, MemberWord, PoolMachine, PoolMemberRequest, PoolRecord, PoolRequest, keep_pool,
    own_member, pools, run_batch, start_pool, stop_pool,
};
pub use private::{PeerRecord, PrivateNetwork, private_network, private_networks};
pub use run::run;
pub use session::{
    ExecRequest, FilePut, Leash, OwnerReply, SessionClient, SessionRecord, SessionRequest,
    SessionState, Stopped, Vitals, own_session, prepare_session, session_id, sessions,
    start_attached, start_session, stop_session,
};
pub use snapshot::{
    AskedMachine, Differs, MachinePart, PullRequest, Snapshot, SnapshotRequest, Snapshots, Taken,
    create_snapshot, pull_snapshot, push_snapshot, remove_snapshot, snapshot, snapshots,
};
pub use template::Present;
pub use trace::Trace;
pub use verify::{ForkCheck, ForkPrograms, verify_fork};
pub use volume::Volume;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/bin/sh -c` of this text.
    Shell(String),
    /// A program and its arguments.
    Argv(Vec<String>),
}

/// Why nothing can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCommand {
    /// No command at all.
    #[error("there is no command to run")]
    None,
    /// A command of nothing but spaces.
    #[error("the command is empty")]
    Empty,
    /// A command for the shell and a program as well.
    #[error("there is both a command and a program")]
    Two,
}

impl Command {
    /// The command, of which there must be exactly one.
    pub fn of(text: Option<&str>, argv: &[String]) -> Result<Self, BadCommand> {
        match (text, argv) {
            (None, []) => Err(BadCommand::None),
            (Some(_), [_, ..]) => Err(BadCommand::Two),
            (Some(text), []) if text.trim().is_empty() => Err(BadCommand::Empty),
            (None, [program, ..]) if program.trim().is_empty() => Err(BadCommand::Empty),
            (Some(text), []) => Ok(Self::Shell(text.to_owned())),
            (None, words) => Ok(Self::Argv(words.to_vec())),
        }
    }
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
    /// What the VM starts as.
    pub origin: Origin,
    /// Virtual processors. What was saved has its own, and its own memory, root
    /// disk and network card.
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

impl OutputStream {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
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
