"""The same API for asyncio. What is cancelled is broken off: a command ends, and
sandboxes that were being launched or forked are stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, Generic, TypeVar, Union

from . import _calls as calls
from ._binary import Path, complaint
from ._calls import Call
from ._connection import AsyncConnection
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
        self._tidying: set[asyncio.Future[Any]] = set()

    async def ensure_runtime(self) -> str:
        """Starts the server unless it runs, and gives its version.

        Every call does so by itself; this one says early what is missing.
        """
        return await self._perform(calls.health())

    def launch_sandbox(self, **options: Unpack[LaunchOptions]) -> Opening[Sandbox]:
        """Starts a sandbox, which ends with this process unless it is detached.

        The options are the keys of `LaunchOptions`. The answer is to be awaited,
        or entered with `async with`, which stops the sandbox at its end.
        """
        return Opening(self._launch(options))

    async def _launch(self, options: LaunchOptions) -> Sandbox:
        launching = self._start(calls.launch(options), lambda info: [info])
        return Sandbox(self, await launching, ours=True)

    async def _start(self, call: Call[T], new: Callable[[T], list[SandboxInfo]]) -> T:
        """Performs a call that starts the sandboxes that `new` finds in its answer."""
        starting = asyncio.ensure_future(self._perform(call))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # They start whether or not we wait: stop them once they have.
            starting.add_done_callback(lambda started: self._unwanted(started, new))
            raise

    def _unwanted(self, started: asyncio.Future[T], new: Callable[[T], list[SandboxInfo]]) -> None:
        if started.cancelled() or started.exception() is not None:
            return
        for info in new(started.result()):
            stopping = asyncio.ensure_future(self._perform(calls.stop(info.id, None, True)))
            self._tidying.add(stopping)
            stopping.add_done_callback(self._tidying.discard)

    async def run_in_sandbox(
        self, function: Callable[[Sandbox], Awaitable[T]], **options: Unpack[LaunchOptions]
    ) -> T:
        """Launches a sandbox, calls `function` with it, stops it in any case, and
        gives what the function gave."""
        async with self.launch_sandbox(**options) as sandbox:
            return await function(sandbox)

    async def connect_to_sandbox(self, name: str) -> Sandbox:
        """A handle on a sandbox that was launched before, by its name or id."""
        return Sandbox(self, await self._perform(calls.inspect(name)), ours=False)

    async def remove_sandbox(self, name: str, *, force: bool = False) -> None:
        """Removes what is left of a sandbox, by its name or id; it may be gone.
        One that runs is stopped with `force`, and else a `UsageError`."""
        if not force:
            await self._perform(calls.ended(name))
        await self._perform(calls.stop(name, None, True))

    async def list_sandboxes(self) -> list[SandboxInfo]:
        """All sandboxes, the oldest first."""
        return await self._perform(calls.list_sandboxes())

    async def build_snapshot(
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
        async with await self._open(calls.build(config, overwrite, debug_builder)) as connection:
            while build.built is None:
                build.feed(await connection.read())
        return build.built

    async def list_snapshots(self) -> list[Snapshot]:
        """All snapshots."""
        return await self._perform(calls.list_snapshots())

    async def snapshot_exists(self, name: str) -> bool:
        """Whether there is a snapshot of this name."""
        return await self._perform(calls.snapshot_exists(name))

    async def remove_snapshot(self, name: str, *, force: bool = False) -> list[str]:
        """Removes a snapshot, and with `force` also what was built on it; it may
        be gone. Gives the names of what was removed."""
        return await self._perform(calls.remove_snapshot(name, force))

    async def list_volumes(self) -> list[Volume]:
        """All volumes."""
        return await self._perform(calls.list_volumes())

    async def volume_exists(self, name: str) -> bool:
        """Whether there is a volume of this name."""
        return await self._perform(calls.volume_exists(name))

    async def ensure_volume(
        self,
        name: str,
        *,
        quota_mib: int | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Makes a volume unless it is there; one that is there stays as it is."""
        return await self._perform(calls.ensure_volume(name, quota_mib, labels))

    async def remove_volume(self, name: str) -> None:
        """Removes a volume and what is in it, unless it is mounted; it may be gone."""
        await self._perform(calls.remove_volume(name))

    async def _perform(self, call: Call[T]) -> T:
        async with await AsyncConnection.open(await self._address(), call.request) as connection:
            return call.read(await connection.reply())

    async def _open(self, request: Request) -> AsyncConnection:
        """An answer that is read as it comes; one that is a failure is raised."""
        connection = await AsyncConnection.open(await self._address(), request)
        try:
            if await connection.status() >= 400:
                (await connection.reply()).check()
        except BaseException:
            connection.close()
            raise
        return connection

    async def _address(self) -> str:
        """Starting the server takes a while, which nobody else is to wait for."""
        running = self._server.running()
        return await asyncio.to_thread(self._server.address) if running is None else running

    async def _copy(self, argv: list[str]) -> None:
        nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        env = self._server.binary.env()
        copying = await asyncio.create_subprocess_exec(
            *argv, stdin=nothing, stdout=nothing, stderr=pipe, env=env
        )
        code, stderr = await _ended(copying)
        if code != 0:
            raise complaint(code, stderr)


async def _ended(process: asyncio.subprocess.Process) -> tuple[int, bytes]:
    """Its exit code and what it said. Whoever is cancelled ends it."""
    try:
        _, stderr = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, stderr or b""


class Sandbox(Handle):
    """A handle on a sandbox.

    As a context manager it stops what it launched, unless that was detached
    meanwhile; in a child of a fork it stops nothing.
    """

    def __init__(self, client: Client, info: SandboxInfo, *, ours: bool) -> None:
        super().__init__(info, ours)
        self._client = client

    async def inspect(self) -> SandboxInfo:
        """What is known of it now."""
        return await self._client._perform(calls.inspect(self.id))

    async def exec(
        self, cmd: str, args: Sequence[str] = (), **options: Unpack[ExecOptions]
    ) -> ExecResult:
        """Runs a program without a shell, to its end.

        The options are the keys of `ExecOptions`. Raises a `CommandError` where
        it did not run to its end.
        """
        return await self._client._perform(calls.run(self.id, calls.program(cmd, args, options)))

    async def shell(self, script: str, **options: Unpack[ExecOptions]) -> ExecResult:
        """Runs a script with /bin/sh, to its end; else as `exec`."""
        return await self._client._perform(calls.run(self.id, calls.script(script, options)))

    def exec_stream(
        self, cmd: str, args: Sequence[str] = (), **options: Unpack[ExecOptions]
    ) -> OpeningStream:
        """Runs a program, and gives its output as it comes; else as `exec`.

        The answer is to be entered with `async with`, iterated, or awaited.
        """
        return OpeningStream(self._stream(calls.program(cmd, args, options)))

    def shell_stream(self, script: str, **options: Unpack[ExecOptions]) -> OpeningStream:
        """Runs a script with /bin/sh, and gives its output as it comes."""
        return OpeningStream(self._stream(calls.script(script, options)))

    async def _stream(self, command: Mapping[str, Any]) -> CommandStream:
        return CommandStream(await self._client._open(calls.stream(self.id, dict(command))))

    async def attach_shell(self, shell: str = "/bin/sh") -> int:
        """Gives this process's terminal to a shell, and its exit code once it
        has ended."""
        binary = self._client._server.binary
        argv = binary.terminal(self.id, shell)
        shown = await asyncio.create_subprocess_exec(*argv, env=binary.env())
        return (await _ended(shown))[0]

    async def copy_in(self, host: Path, guest: str) -> None:
        """Copies a file, or what is in a directory, from this host. `guest` is
        absolute; one that ends with `/` is a directory to put a file into."""
        await self._client._copy(self._client._server.binary.copy_in(self.id, host, guest))

    async def copy_out(self, guest: str, host: Path) -> None:
        """Copies a file, or what is in a directory, to this host, likewise.
        Nothing is written outside of `host`, whatever the sandbox sends."""
        await self._client._copy(self._client._server.binary.copy_out(self.id, guest, host))

    async def read_file(self, path: str) -> bytes:
        """What is in a file. `path` is absolute."""
        return await self._client._perform(calls.read_file(self.id, path))

    async def write_file(
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
        await self._client._perform(calls.write_file(self.id, path, data, mode, parents))

    async def snapshot(
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
        return await self._client._perform(
            calls.snapshot(self.id, name, overwrite, labels, with_secrets)
        )

    async def fork(
        self, count: int = 1, *, detached: bool = False, with_secrets: bool = False
    ) -> list[Sandbox]:
        """Makes `count` sandboxes that go on from where it is now, as it does.
        One that has secrets is refused but with `with_secrets`; forks have none."""
        forking = calls.fork(self.id, count, detached, with_secrets)
        forks = await self._client._start(forking, lambda forks: forks)
        return [Sandbox(self._client, info, ours=not detached) for info in forks]

    async def log(self) -> list[LogEntry]:
        """The commands that `undo` can take back, where it has `checkpoints`."""
        return await self._client._perform(calls.log(self.id))

    async def undo(self, to: int | None = None) -> Undone:
        """Takes it back to before its last command, or to before command `to`."""
        return await self._client._perform(calls.undo(self.id, to))

    async def detach(self) -> None:
        """Lets it outlive this process."""
        self.info = await self._client._perform(calls.detach(self.id))
        self._let_go()

    async def stop(self, *, grace: float | None = None, force: bool = False) -> None:
        """Stops it, and waits until nothing of it is left; it may have ended.

        What runs in it has `grace` seconds to end, 5 where they are left out,
        and none with `force`.
        """
        await self._client._perform(calls.stop(self.id, grace, force))
        self._let_go()

    async def __aenter__(self) -> Sandbox:
        return self

    async def __aexit__(self, *failure: object) -> None:
        if self._is_ours():
            await self.stop()


class CommandStream:
    """What a command says, as it comes: iterating gives `Output`.

    `code` is its exit code, once all was said. Closing it before, also by
    leaving its `async with`, ends the command.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._events = CommandEvents()

    @property
    def code(self) -> int | None:
        """Its exit code, once there is one; 128+n where signal n ended it."""
        return self._events.code

    def __aiter__(self) -> CommandStream:
        return self

    async def __anext__(self) -> Output:
        while not self._events.pieces:
            if self._events.end is not None:
                self.close()
                self._events.check()
                raise StopAsyncIteration
            self._events.feed(await self._connection.read())
        return self._events.pieces.popleft()

    def close(self) -> None:
        """Ends the command, unless it has ended."""
        self._connection.close()

    async def __aenter__(self) -> CommandStream:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.close()


Opened = TypeVar("Opened", bound=Union[Sandbox, CommandStream])


class Opening(Generic[Opened]):
    """Something that is being opened: to be awaited, or entered with `async
    with`."""

    def __init__(self, opening: Coroutine[Any, Any, Opened]) -> None:
        self._opening = opening

    def __await__(self) -> Generator[Any, None, Opened]:
        return self._opening.__await__()

    async def __aenter__(self) -> Opened:
        self._opened = await self
        return self._opened

    async def __aexit__(self, *failure: object) -> None:
        await self._opened.__aexit__(*failure)


class OpeningStream(Opening[CommandStream]):
    """A stream that is being opened; it can be iterated, too."""

    async def __aiter__(self) -> AsyncIterator[Output]:
        async with self as stream:
            async for piece in stream:
                yield piece


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
    "CommandStream",
    "Opening",
    "OpeningStream",
    "Sandbox",
    "build_snapshot",
    "connect_to_sandbox",
    "ensure_runtime",
    "ensure_volume",
    "launch_sandbox",
    "list_sandboxes",
    "list_snapshots",
    "list_volumes",
    "remove_sandbox",
    "remove_snapshot",
    "remove_volume",
    "run_in_sandbox",
    "snapshot_exists",
    "volume_exists",
]
