#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod asking;
mod build;
mod config;
mod error;
mod events;
mod exec;
mod files;
mod http;
mod launch;
mod output;
pub mod presets;
mod program;
mod runtime;
mod sandbox;
mod say;
mod server;
mod snapshots;
mod stream;
mod volumes;

pub use build::{BuildEvent, BuildOptions, BuildStream, build_snapshot, build_snapshot_stream};
pub use config::{ExecStep, Resources, SetupStep, ShellStep, SnapshotConfig, exec, shell};
pub use error::{Error, ErrorKind, Failure, SetupFailure};
pub use exec::Exec;
pub use files::{FileInfo, FileKind, Fs, WriteFile};
pub use launch::{
    LaunchOptions, Mount, Secret, connect_to_sandbox, launch_sandbox, run_in_sandbox,
};
pub use output::ExecOutput;
pub use program::RuntimeOptions;
pub use runtime::{Runtime, ensure_runtime};
pub use sandbox::{
    Fork, LogEntry, RemoveOptions, Sandbox, SandboxInfo, Undone, list_sandboxes, remove_sandbox,
    sandbox_exists,
};
pub use snapshots::{
    Parent, Snapshot, TakeSnapshot, list_snapshots, remove_snapshot, snapshot_exists,
};
pub use stream::{ExecEvent, ExecStdin, ExecStream};
pub use volumes::{
    Volume, VolumeOptions, ensure_volume, list_volumes, remove_volume, volume_exists,
};
