"""The server of this process: `lampyr serve --parent`, started when it is first
needed. It ends with us, however we end, and stops what was not detached."""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import tempfile
import threading
import time
from typing import IO, NamedTuple

from ._binary import Binary, Path, complaint
from .errors import ConnectionFailed

#: How long it may take to listen, in seconds.
START = 60.0
#: How long it may take to stop all that is attached when we end, in seconds.
STOP = 20.0
#: The longest first line, in bytes.
MAX_LINE = 64 * 1024


class Running(NamedTuple):
    """A server that was started, and the path of its socket."""

    process: subprocess.Popen[bytes]
    address: str


class Server:
    """A server that is there when its address is asked for."""

    def __init__(self, binary: Binary) -> None:
        self.binary = binary
        self._lock = threading.Lock()
        self._started: Running | None = None

    def running(self) -> str | None:
        """Where it listens, if it runs. Does not wait."""
        started = self._started
        return started.address if started and started.process.poll() is None else None

    def address(self) -> str:
        """The path of its socket. Starts it where it does not run."""
        with self._lock:
            running = self.running()
            if running is not None:
                return running
            if self._started:
                _reap(self._started.process)
            self._started = _start(self.binary)
            return self._started.address

    def end(self) -> None:
        """Ends it, and waits until it is gone."""
        with self._lock:
            started, self._started = self._started, None
        if started:
            _reap(started.process)

    def forget(self) -> None:
        """In a child of a fork: the server is our parent's. Its standard input
        is closed here, or it would live as long as we do."""
        started, self._started = self._started, None
        self._lock = threading.Lock()
        if started and started.process.stdin:
            started.process.stdin.close()
            # It is no child of ours, so that there is nothing to wait for.
            started.process.returncode = 0


def _start(binary: Binary) -> Running:
    with tempfile.TemporaryFile() as said:
        process = _spawn(binary, said)
        try:
            return Running(process, str(json.loads(_first_line(process))["socket"]))
        except BaseException as error:
            raise _not_started(error, _reap(process), said) from error


def _spawn(binary: Binary, said: IO[bytes]) -> subprocess.Popen[bytes]:
    argv = binary.argv("serve", "--parent")
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            bufsize=0,
            env=binary.env(),
            # What Ctrl-C means is for us to say.
            start_new_session=True,
        )
    except OSError as error:
        raise ConnectionFailed(f"{argv[0]} cannot be started: {error}") from error


def _reap(process: subprocess.Popen[bytes]) -> int:
    """Closes its standard input, which is what it ends at."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        return process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _not_started(error: BaseException, code: int, said: IO[bytes]) -> BaseException:
    """The server's own words, where it had any."""
    said.seek(0)
    if isinstance(error, EOFError):
        return complaint(code, said.read(MAX_LINE))
    if isinstance(error, (ValueError, KeyError, TypeError, OSError)):
        return ConnectionFailed(f"lampyr serve did not say where it listens: {error}")
    return error


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """All that it ever prints."""
    line, deadline = b"", time.monotonic() + START
    assert process.stdout is not None
    with process.stdout as stdout, selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if len(line) > MAX_LINE or not selector.select(deadline - time.monotonic()):
                raise TimeoutError(f"nothing came within {START:.0f} s")
            data = os.read(stdout.fileno(), MAX_LINE)
            if not data:
                raise EOFError
            line += data
    return line


_servers: dict[tuple[str | None, str | None], Server] = {}


def server(path: Path | None, home: Path | None) -> Server:
    """The one server of this process for this program and state directory."""
    key = tuple(None if each is None else os.path.abspath(each) for each in (path, home))
    return _servers.setdefault((key[0], key[1]), Server(Binary(path, home)))


@atexit.register
def _end_all() -> None:
    for each in _servers.values():
        each.end()


def _forget_all() -> None:
    for each in _servers.values():
        each.forget()


os.register_at_fork(after_in_child=_forget_all)
