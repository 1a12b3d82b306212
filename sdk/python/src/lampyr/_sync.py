"""The API that blocks. Its objects may be used by several threads at once."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    TypeVar,
)

from . import _calls as calls
from ._binary import Path, complaint
from ._calls import Call
from ._connection import Connection
from ._events import BuildEvents, CommandEvents
from ._handle import Handle
from ._http import Request
from ._server import server
from .config import ExecOptions, LaunchOptions, SnapshotConfig
from .results import ExecResult, LogEntry, Output, SandboxInfo, Snapshot, Undone, Volume

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Client:
    """All calls, for one `lampyr` program and one state directory.

    What is left out comes from `LAMPYR_BIN` or `PATH`, and from `LAMPYR_HOME`.
    The functions of the package are those of a client that was told nothing.
    """

    def __init__(self, binary: Path | None = None, home: Path | None = None) -> None:
        self._server = server(binary, home)

    def ensure_runtime(self) -> str:
        """Starts the server unless it runs, and gives its version.

        Every call does so by itself; this one says early what is missing.
        """
        return self._perform(calls.health())

    def launch_sandbox(self, **options: Unpack[LaunchOptions]) -> Sandbox:
        """Starts a sandbox, which ends with this process unless it is detached.

        The options are the keys of `LaunchOptions`.
        """
        return Sandbox(self, self._perform(calls.launch(options)), ours=True)

    def run_in_sandbox(
        self, function: Callable[[Sandbox], T], **options: Unpack[LaunchOptions]
    ) -> T:
        """Launches a sandbox, calls `function` with it, stops it in any case, and
        gives what the function gave."""
        with self.launch_sandbox(**options) as sandbox:
            return function(sandbox)

    def connect_to_sandbox(self, name: str) -> Sandbox:
        """A handle on a sandbox that was launched before, by its name or id."""
        return Sandbox(self, self._perform(calls.inspect(name)), ours=False)

    def remove_sandbox(self, name: str, *, force: bool = False) -> None:
        """Removes what is left of a sandbox, by its name or id; it may be gone.
        One that runs is stopped with `force`, and else a `UsageError`."""
        if not force:
            self._perform(calls.ended(name))
        self._perform(calls.stop(name, None, True))

    def list_sandboxes(self) -> list[SandboxInfo]:
        """All sandboxes, the oldest first."""
        return self._perform(calls.list_sandboxes())

    def build_snapshot(
        self,
        config: SnapshotConfig,
        *,
        overwrite: bool = True,
        debug_builder: bool = False,
        verbose: bool = False,
    ) -> Snapshot:
        """Builds a snapshot: starts a builder from the image, runs the steps, and
        keeps what came of it under the config's name.

        Raises `SetupFailed` where a step fails; an earlier snapshot of the name
        stays then. `debug_builder` leaves the builder running as
        `NAME-builder`, `verbose` tells steps and output on standard error.
        """
        build = BuildEvents(verbose)
        with self._open(calls.build(config, overwrite, debug_builder)) as connection:
            while build.built is None:
                build.feed(connection.read())
        return build.built

    def list_snapshots(self) -> list[Snapshot]:
        """All snapshots."""
        return self._perform(calls.list_snapshots())

    def snapshot_exists(self, name: str) -> bool:
        """Whether there is a snapshot of this name."""
        return self._perform(calls.snapshot_exists(name))

    def remove_snapshot(self, name: str, *, force: bool = False) -> list[str]:
        """Removes a snapshot, and with `force` also what was built on it; it may
        be gone. Gives the names of what was removed."""
        return self._perform(calls.remove_snapshot(name, force))

    def list_volumes(self) -> list[Volume]:
        """All volumes."""
        return self._perform(calls.list_volumes())

    def volume_exists(self, name: str) -> bool:
        """Whether there is a volume of this name."""
        return self._perform(calls.volume_exists(name))

    def ensure_volume(
        self,
        name: str,
        *,
        quota_mib: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Makes a volume unless it is there; one that is there stays as it is."""
        return self._perform(calls.ensure_volume(name, quota_mib, labels))

    def remove_volume(self, name: str) -> None:
        """Removes a volume and what is in it, unless it is mounted; it may be gone."""
        self._perform(calls.remove_volume(name))

    def _perform(self, call: Call[T]) -> T:
        with Connection(self._server.address(), call.request) as connection:
            return call.read(connection.reply())

    def _open(self, request: Request) -> Connection:
        """An answer that is read as it comes; one that is a failure is raised."""
        connection = Connection(self._server.address(), request)
        try:
            if connection.status() >= 400:
                connection.reply().check()
        except BaseException:
            connection.close()
            raise
        return connection

    def _copy(self, argv: list[str]) -> None:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, env=self._server.binary.env()
        )
        if done.returncode != 0:
            raise complaint(done.returncode, done.stderr)


class Sandbox(Handle):
    """A handle on a sandbox.

    As a context manager it stops what it launched, unless that was detached
    meanwhile; in a child of a fork it stops nothing.
    """

    def __init__(self, client: Client, info: SandboxInfo, *, ours: bool) -> None:
        super().__init__(info, ours)
        self._client = client

    def inspect(self) -> SandboxInfo:
        """What is known of it now."""
        return self._client._perform(calls.inspect(self.id))

    def exec(
        self, cmd: str, args: Sequence[str] = (), **options: Unpack[ExecOptions]
    ) -> ExecResult:
        """Runs a program without a shell, to its end.

        The options are the keys of `ExecOptions`. Raises a `CommandError` where
        it did not run to its end.
        """
        return self._client._perform(calls.run(self.id, calls.program(cmd, args, options)))

    def shell(self, script: str, **options: Unpack[ExecOptions]) -> ExecResult:
        """Runs a script with /bin/sh, to its end; else as `exec`."""
        return self._client._perform(calls.run(self.id, calls.script(script, options)))

    def exec_stream(
        self, cmd: str, args: Sequence[str] = (), **options: Unpack[ExecOptions]
    ) -> CommandStream:
        """Runs a program, and gives its output as it comes; else as `exec`."""
        return self._stream(calls.program(cmd, args, options))

    def shell_stream(self, script: str, **options: Unpack[ExecOptions]) -> CommandStream:
        """Runs a script with /bin/sh, and gives its output as it comes."""
        return self._stream(calls.script(script, options))

    def _stream(self, command: Mapping[str, Any]) -> CommandStream:
        return CommandStream(self._client._open(calls.stream(self.id, dict(command))))

    def attach_shell(self, shell: str = "/bin/sh") -> int:
        """Gives this process's terminal to a shell, and its exit code once it
        has ended."""
        binary = self._client._server.binary
        return subprocess.run(binary.terminal(self.id, shell), env=binary.env()).returncode

    def copy_in(self, host: Path, guest: str) -> None:
        """Copies a file, or what is in a directory, from this host. `guest` is
        absolute; one that ends with `/` is a directory to put a file into."""
        self._client._copy(self._client._server.binary.copy_in(self.id, host, guest))

    def copy_out(self, guest: str, host: Path) -> None:
        """Copies a file, or what is in a directory, to this host, likewise.
        Nothing is written outside of `host`, whatever the sandbox sends."""
        self._client._copy(self._client._server.binary.copy_out(self.id, guest, host))

    def read_file(self, path: str) -> bytes:
        """What is in a file. `path` is absolute."""
        return self._client._perform(calls.read_file(self.id, path))

    def write_file(
        self,
        path: str,
        data: str | bytes,
        *,
        mode: int | None = None,
        parents: bool = False,
    ) -> None:
        """Writes a file; until all of it is there, what was there before stays.

        `path` is absolute, `mode` its permissions, as in `0o644`; with `parents`
        directories that are missing are made.
        """
        self._client._perform(calls.write_file(self.id, path, data, mode, parents))

    def snapshot(
        self,
        name: str,
        *,
        overwrite: bool = True,
        labels: Mapping[str, str] | None = None,
        with_secrets: bool = False,
    ) -> Snapshot:
        """Keeps its disk and memory as they are now; it goes on.

        One that has secrets is refused but with `with_secrets`; their values are
        in no snapshot.
        """
        return self._client._perform(calls.snapshot(self.id, name, overwrite, labels, with_secrets))

    def fork(
        self, count: int = 1, *, detached: bool = False, with_secrets: bool = False
    ) -> list[Sandbox]:
        """Makes `count` sandboxes that go on from where it is now, as it does.
        One that has secrets is refused but with `with_secrets`; forks have none."""
        forks = self._client._perform(calls.fork(self.id, count, detached, with_secrets))
        return [Sandbox(self._client, info, ours=not detached) for info in forks]

    def log(self) -> list[LogEntry]:
        """The commands that `undo` can take back, where it has `checkpoints`."""
        return self._client._perform(calls.log(self.id))

    def undo(self, to: int | None = None) -> Undone:
        """Takes it back to before its last command, or to before command `to`."""
        return self._client._perform(calls.undo(self.id, to))

    def detach(self) -> None:
        """Lets it outlive this process."""
        self.info = self._client._perform(calls.detach(self.id))
        self._let_go()

    def stop(self, *, grace: float | None = None, force: bool = False) -> None:
        """Stops it, and waits until nothing of it is left; it may have ended.

        What runs in it has `grace` seconds to end, 5 where they are left out,
        and none with `force`.
        """
        self._client._perform(calls.stop(self.id, grace, force))
        self._let_go()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._is_ours():
            self.stop()


class CommandStream:
    """What a command says, as it comes: iterating gives `Output`.

    `code` is its exit code, once all was said. Closing it before, also by
    leaving its `with`, ends the command.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._events = CommandEvents()

    @property
    def code(self) -> int | None:
        """Its exit code, once there is one; 128+n where signal n ended it."""
        return self._events.code

    def __iter__(self) -> CommandStream:
        return self

    def __next__(self) -> Output:
        while not self._events.pieces:
            if self._events.end is not None:
                self.close()
                self._events.check()
                raise StopIteration
            self._events.feed(self._connection.read())
        return self._events.pieces.popleft()

    def close(self) -> None:
        """Ends the command, unless it has ended."""
        self._connection.close()

    def __enter__(self) -> CommandStream:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
