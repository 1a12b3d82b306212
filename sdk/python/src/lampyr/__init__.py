"""Run commands in sealed microVMs: launch, snapshot, fork, undo.

The same calls for asyncio are in `lampyr.aio`, ready-made snapshots in
`lampyr.presets`.
"""

from ._sync import Client, CommandStream, Sandbox
from .config import (
    ExecOptions,
    ExecStep,
    LaunchOptions,
    Mount,
    Resources,
    Secret,
    SetupStep,
    ShellStep,
    SnapshotConfig,
    define_snapshot,
    exec_,
    shell,
)
from .errors import (
    CommandError,
    CommandFailed,
    CommandTimeout,
    ConnectionFailed,
    FailedStep,
    LampyrError,
    SessionDisconnected,
    SetupFailed,
    UsageError,
    VmCrashed,
)
from .results import ExecResult, LogEntry, Output, SandboxInfo, Snapshot, Undone, Volume

_client = Client()

ensure_runtime = _client.ensure_runtime
launch_sandbox = _client.launch_sandbox
run_in_sandbox = _client.run_in_sandbox
connect_to_sandbox = _client.connect_to_sandbox
list_sandboxes = _client.list_sandboxes
remove_sandbox = _client.remove_sandbox
build_snapshot = _client.build_snapshot
list_snapshots = _client.list_snapshots
snapshot_exists = _client.snapshot_exists
remove_snapshot = _client.remove_snapshot
list_volumes = _client.list_volumes
volume_exists = _client.volume_exists
ensure_volume = _client.ensure_volume
remove_volume = _client.remove_volume

__all__ = [
    "Client",
    "CommandError",
    "CommandFailed",
    "CommandStream",
    "CommandTimeout",
    "ConnectionFailed",
    "ExecOptions",
    "ExecResult",
    "ExecStep",
    "FailedStep",
    "LampyrError",
    "LaunchOptions",
    "LogEntry",
    "Mount",
    "Output",
    "Resources",
    "Sandbox",
    "SandboxInfo",
    "Secret",
    "SessionDisconnected",
    "SetupFailed",
    "SetupStep",
    "ShellStep",
    "Snapshot",
    "SnapshotConfig",
    "Undone",
    "UsageError",
    "VmCrashed",
    "Volume",
    "build_snapshot",
    "connect_to_sandbox",
    "define_snapshot",
    "ensure_runtime",
    "ensure_volume",
    "exec_",
    "launch_sandbox",
    "list_sandboxes",
    "list_snapshots",
    "list_volumes",
    "remove_sandbox",
    "remove_snapshot",
    "remove_volume",
    "run_in_sandbox",
    "shell",
    "snapshot_exists",
    "volume_exists",
]
