//! What can go wrong, and what kind of failure that is to a user.

mod run;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use lampyr_engine::{Ended, EngineError};
use lampyr_image::ImageError;
use lampyr_net::{Domain, MAX_PEERS};
use lampyr_oci::OciError;
use lampyr_proto::Failure;
use lampyr_store::StoreError;
use lampyr_types::{ErrorKind, Name, Size, Span};

use crate::build::StepEnd;
use crate::channel::ChannelError;
pub use run::RunError;

/// Why a use-case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kit or an image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The conversation with the agent.
    #[error("{0}")]
    Agent(String),
    /// The VM ended by itself.
    #[error("the VM ended by itself: {}", .0.how)]
    Crashed(Ended),
    /// The command took too long.
    #[error("the command ran longer than {0}")]
    Timeout(Span),
    /// Nobody said what to run.
    #[error("there is no command to run, and image '{0}' has none of its own")]
    NoCommand(String),
    /// A command that was to make an image failed.
    #[error("'{command}' failed with exit code {code}, and no image was made")]
    Step {
        /// The command.
        command: String,
        /// How it ended.
        code: i32,
    },
    /// A step of a build failed.
    #[error("step {index} of {count} ({what}) {end}, and no snapshot was made")]
    SetupStep {
        /// Which, counted from 1.
        index: usize,
        /// Of how many.
        count: usize,
        /// What it was for.
        what: String,
        /// How it ended.
        end: StepEnd,
        /// The builder had no network.
        sealed: bool,
    },
    /// The steps of a build had no directory to begin in.
    #[error("the working directory {0} is not there, and no step made it")]
    NoWorkdir(String),
    /// Files could not be moved.
    #[error("cannot copy {what}: {why}")]
    Copy {
        /// What was to be copied, as the user said it.
        what: String,
        /// What stood in the way.
        why: String,
    },
    /// Something could not be done with a file of a guest's.
    #[error("{why}")]
    File {
        /// What stood in the way.
        fault: FileFault,
        /// What the guest said.
        why: String,
    },
    /// Our own standard input, which a command was to have.
    #[error("cannot read standard input: {0}")]
    Input(std::io::Error),
    /// Output could not be delivered.
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    /// No accelerator that was asked for works here.
    #[error("{accel} does not work on this host: {why}")]
    Accel {
        /// Which one was asked for.
        accel: String,
        /// What was found.
        why: String,
    },
    /// There is no such session, and never was.
    #[error("session '{0}' not found")]
    NoSession(String),
    /// The session's owner is gone.
    #[error("session '{0}' is dead: its owner is gone")]
    DeadSession(String),
    /// The session ended in order, and nothing of it is left.
    #[error("session '{0}' has ended: it was stopped, or nobody used it for its --ttl")]
    EndedSession(String),
    /// A session that lives has the name.
    #[error("there is a session named '{0}' already")]
    NameTaken(Name),
    /// The connection to a session broke.
    #[error("the session went away")]
    Disconnected,
    /// A session has no such job; the sentence says which.
    #[error("{0}")]
    NoJob(String),
    /// There is no such pool, and never was.
    #[error("pool '{0}' not found")]
    NoPool(String),
    /// The process that owns a session or a pool could not be started.
    #[error("cannot start its owner's process: {0}")]
    Owner(std::io::Error),
    /// Somebody else failed and said how.
    #[error("{message}")]
    Told {
        /// What kind of failure it is.
        kind: ErrorKind,
        /// One sentence.
        message: String,
        /// A next step, where there is one.
        hint: Option<String>,
        /// How long it had taken, where that was said.
        took: Option<Duration>,
    },
    /// A directory could not be mounted.
    #[error("cannot mount {what}: {why}")]
    Mount {
        /// What was to be mounted, as the user said it.
        what: String,
        /// What stood in the way.
        why: String,
    },
    /// There is no such volume.
    #[error("volume '{0}' not found")]
    NoVolume(Name),
    /// A volume has the name already.
    #[error("there is a volume named '{0}' already")]
    VolumeTaken(Name),
    /// A volume that is to go is mounted.
    #[error("volume '{0}' is in use")]
    VolumeBusy(Name),
    /// There is no such snapshot.
    #[error("snapshot '{0}' not found")]
    NoSnapshot(Name),
    /// A snapshot has the name already.
    #[error("there is a snapshot named '{0}' already")]
    SnapshotTaken(Name),
    /// Other snapshots were built on one that is to go.
    #[error("{} built on '{name}'", were(.by))]
    SnapshotNeeded {
        /// The one that is to go.
        name: Name,
        /// Those that were built on it.
        by: Vec<Name>,
    },
    /// A sandbox runs that was launched from a snapshot that is to go.
    #[error("snapshot '{0}' is in use")]
    SnapshotBusy(Name),
    /// The list of all snapshots does not read.
    #[error("the list of snapshots is damaged: {}", .0.display())]
    SnapshotIndex(PathBuf),
    /// Something of a snapshot is missing, or not what its digest says.
    #[error("the snapshot is damaged: {0} is missing or not what it should be")]
    SnapshotDamaged(lampyr_oci::Digest),
    /// A snapshot has a part that this build does not know.
    #[error("the snapshot is of another lampyr: it has {0}")]
    SnapshotFormat(String),
    /// What a registry has under a reference is something else.
    #[error("{0} is no snapshot")]
    NotSnapshot(String),
    /// A snapshot would take more room than anything from a registry may.
    #[error("the snapshot unpacks to more than {0}")]
    SnapshotTooLarge(Size),
    /// A snapshot was taken by another engine, or on another processor.
    #[error("the snapshot does not fit this host: {0}")]
    Incompatible(String),
    /// The image beneath a saved machine is gone or another one.
    #[error("image '{image}' is not what it was when the VM was saved")]
    ImageChanged {
        /// The image.
        image: String,
    },
    /// Nothing is remembered of what a session was then.
    #[error("{}", no_point(*.0))]
    NoPoint(Option<u64>),
    /// The template of a running machine was made again meanwhile.
    #[error("what the VM was restored from was replaced, and a copy needs it")]
    TemplateReplaced,
    /// What a fork was made of is gone.
    #[error("what the fork was made of is gone")]
    ForkGone,
    /// A session with secrets is not copied unless that is said.
    #[error("the session holds secrets, and a copy would be somebody else's")]
    HoldsSecrets,
    /// A variable of a command's that would hide a secret of its session's.
    #[error("'{0}' is a secret of the session's, and cannot be a variable as well")]
    SecretVariable(String),
    /// The machine is somebody else's.
    #[error("this VM is not ours to copy")]
    NotOurs,
    /// The network of a VM could not be started.
    #[error("cannot start the VM's network: {0}")]
    Network(std::io::Error),
    /// The network of a VM ended by itself; nothing is open any more.
    #[error("{0}")]
    NetworkEnded(std::io::Error),
    /// Somebody on the private network has the name.
    #[error("there is a VM named '{name}' on network '{network}' already")]
    PeerTaken {
        /// The name.
        name: Domain,
        /// The network.
        network: Name,
    },
    /// A private network has no place for one more.
    #[error("network '{0}' has {MAX_PEERS} VMs, and room for no more")]
    NetworkFull(Name),
    /// There is no such private network.
    #[error("network '{0}' not found")]
    NoNetwork(Name),
    /// A port could not be taken.
    #[error("cannot listen on 127.0.0.1:{port}: {source}")]
    Port {
        /// The port.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// A local path could not be used.
    #[error("cannot use {path}: {source}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What stood in the way of what was to be done with a guest's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFault {
    /// There is no such file.
    Missing,
    /// There is something by that name, or in the directory, already.
    InTheWay,
    /// It is a directory where it must be none, or the other way round.
    WrongKind,
    /// The user may not.
    Denied,
    /// There is no room.
    Full,
    /// Something else.
    Other,
}

impl FileFault {
    /// What an error's number means in a guest, which is a Linux.
    pub(crate) fn of(number: i32) -> Self {
        match number {
            2 => Self::Missing,
            17 | 39 => Self::InTheWay,
            20 | 21 => Self::WrongKind,
            1 | 13 | 30 => Self::Denied,
            28 | 122 => Self::Full,
            _ => Self::Other,
        }
    }
}

impl From<ChannelError> for Error {
    fn from(e: ChannelError) -> Self {
        Self::Agent(e.to_string())
    }
}

impl From<OciError> for Error {
    fn from(e: OciError) -> Self {
        Self::Image(e.into())
    }
}

impl From<Failure> for Error {
    fn from(told: Failure) -> Self {
        if told.kind == NO_JOB {
            return Self::NoJob(told.message);
        }
        let kind = ErrorKind::from_word(&told.kind).unwrap_or(ErrorKind::ConnectionFailed);
        let took = told.host_us.map(Duration::from_micros);
        Self::Told { kind, message: told.message, hint: told.hint, took }
    }
}

impl Error {
    /// This failure, for somebody else to be told.
    pub(crate) fn to_failure(&self) -> Failure {
        let kind = if matches!(self, Self::NoJob(_)) { NO_JOB } else { self.kind().word() };
        let (kind, message) = (kind.to_owned(), self.to_string());
        Failure { kind, message, hint: self.hint(), host_us: None }
    }

    /// What kind of failure it is. A request that is in conflict with what is
    /// there makes no sense.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Crashed(_) => ErrorKind::VmCrashed,
            Self::Disconnected => ErrorKind::SessionDisconnected,
            Self::NameTaken(_)
            | Self::PeerTaken { .. }
            | Self::VolumeTaken(_)
            | Self::VolumeBusy(_)
            | Self::NetworkFull(_)
            | Self::NoPoint(_)
            | Self::HoldsSecrets
            | Self::SecretVariable(_)
            | Self::SnapshotTaken(_)
            | Self::SnapshotNeeded { .. }
            | Self::SnapshotBusy(_)
            | Self::Image(ImageError::InUse { .. })
            | Self::File { .. }
            | Self::NoCommand(_) => ErrorKind::Usage,
            Self::SetupStep { end, .. } => end.kind(),
            Self::Told { kind, .. } => *kind,
            _ => ErrorKind::ConnectionFailed,
        }
    }

    /// How long what failed had taken, where somebody else said so.
    pub(crate) fn took(&self) -> Option<Duration> {
        if let Self::Told { took, .. } = self { *took } else { None }
    }

    /// A next step, where there is one.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(e) if e.is_full() => Some(MAKE_ROOM.into()),
            Self::Engine(EngineError::Io { source, .. }) if is_full(source) => {
                Some(MAKE_ROOM.into())
            }
            Self::Store(StoreError::Format { .. }) => {
                Some("use a newer Lampyr, or another LAMPYR_HOME".into())
            }
            Self::Store(_) => Some("LAMPYR_HOME must be a directory that you can write to".into()),
            Self::Image(e) => e.hint(),
            Self::Engine(EngineError::Unavailable { hint, .. }) => Some(hint.clone()),
            Self::Engine(EngineError::Ended(ended)) | Self::Crashed(ended) => {
                Some(after_the_end(ended))
            }
            Self::Output(e) if is_full(e) => {
                Some("make room where the output goes: there is none left".into())
            }
            Self::NoCommand(_) => Some("for example: lampyr run \"echo hello\"".into()),
            Self::NoWorkdir(dir) => Some(format!("make it in a step: mkdir -p {dir}")),
            Self::SetupStep { end, sealed, .. } => {
                Some(format!("what it said is above; {}", end.hint(*sealed)))
            }
            Self::Step { .. } => Some("what it said is above; a VM has no network".into()),
            Self::Timeout(_) => Some("give it longer with --timeout".into()),
            Self::Input(_) => Some("with `< /dev/null` the command has no input".into()),
            Self::NoSession(_) => Some("`lampyr session list` shows those that there are".into()),
            Self::NoJob(_) => Some("`lampyr exec SID --detach \"...\"` prints a job's name".into()),
            Self::NoPool(_) => Some("`lampyr pool list` shows those that there are".into()),
            Self::DeadSession(_) => Some("`lampyr clean` removes what it left".into()),
            Self::EndedSession(_) => Some("`lampyr session start` starts another".into()),
            Self::NameTaken(name) => Some(format!("`lampyr session stop {name}` ends it")),
            Self::NetworkEnded(_) => {
                Some("nothing is open any more: start the session again, or undo".into())
            }
            Self::PeerTaken { .. } => Some("choose another name, or another network".into()),
            Self::NetworkFull(name) => Some(format!("`lampyr network stop {name}` ends them all")),
            Self::NoNetwork(_) => Some("`lampyr network list` shows those that there are".into()),
            Self::NoVolume(name) => Some(format!("`lampyr volume create {name}` makes it")),
            Self::VolumeTaken(name) => Some(format!("`lampyr volume rm {name}` removes it")),
            Self::VolumeBusy(_) => Some("stop the sessions that have it mounted".into()),
            Self::NoPoint(Some(_)) => Some("`lampyr log SID` shows those that there are".into()),
            Self::NoPoint(None) => {
                Some("start sessions with --checkpoints N, and run something".into())
            }
            Self::HoldsSecrets => {
                Some("--with-secrets copies it all the same, without their values".into())
            }
            Self::SecretVariable(_) => Some("give the variable another name".into()),
            Self::TemplateReplaced => Some("start another session".into()),
            Self::NoSnapshot(_) => Some("`lampyr snapshot list` shows those that there are".into()),
            Self::SnapshotTaken(name) => Some(format!("`lampyr snapshot rm {name}` removes it")),
            Self::SnapshotNeeded { .. } => Some("--force removes all of them".into()),
            Self::SnapshotBusy(_) => Some("stop the sessions that were started from it".into()),
            Self::SnapshotDamaged(_) => {
                Some("take it again, or build it again with --no-cache".into())
            }
            Self::SnapshotIndex(path) => Some(format!(
                "put a copy of it there; or rm {} and `lampyr clean`, which removes all snapshots",
                path.display()
            )),
            Self::NotSnapshot(_) => Some("`lampyr images pull` fetches images".into()),
            Self::SnapshotTooLarge(_) => {
                Some("LAMPYR_MAX_IMAGE sets how much may come from a registry".into())
            }
            Self::SnapshotFormat(_) => Some("use a newer lampyr, or take it again".into()),
            Self::Incompatible(_) => Some("take it again on this host".into()),
            Self::ImageChanged { .. } => Some("get that image back, or save the VM again".into()),
            Self::Port { .. } => Some("forward another port of this host's".into()),
            Self::Told { hint, .. } => hint.clone(),
            Self::Accel { .. } => Some("leave LAMPYR_ACCEL unset, or see `lampyr doctor`".into()),
            _ => None,
        }
    }
}

/// The kind's word of [`Error::NoJob`] between owner and client. Whoever does not
/// know it hears that the connection failed.
const NO_JOB: &str = "no_job";

const MAKE_ROOM: &str = "free some space: `lampyr clean` removes what dead processes left";

/// Which snapshots were something; of many only the first.
fn were(names: &[Name]) -> String {
    const TOLD: usize = 5;
    let told: Vec<_> = names.iter().take(TOLD).map(|name| format!("'{name}'")).collect();
    let more = names.len() - told.len();
    match (names, more) {
        ([one], _) => format!("snapshot '{one}' was"),
        (_, 0) => format!("snapshots {} were", told.join(", ")),
        _ => format!("snapshots {} and {more} more were", told.join(", ")),
    }
}

fn no_point(to: Option<u64>) -> String {
    match to {
        Some(number) => {
            format!("the session does not remember what it was before command {number}")
        }
        None => "there is nothing to undo".into(),
    }
}

/// What to do, or to know, about a machine that ended by itself.
fn after_the_end(ended: &Ended) -> String {
    if ended.starved {
        return "this host has no room left for the VM's memory: free some of its memory, and \
                space on the disk of LAMPYR_HOME"
            .into();
    }
    last_words(ended).unwrap_or_else(|| "`lampyr doctor` checks all that a VM needs".into())
}

fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The line that says most of what a machine said at its end: why its kernel
/// gave up, else the last one.
fn last_words(ended: &Ended) -> Option<String> {
    let mut lines = ended.log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let panic = lines.clone().find(|line| line.contains("Kernel panic"));
    let line = panic.or_else(|| lines.next())?;
    Some(format!("its last words were: {}", line.chars().take(200).collect::<String>()))
}
