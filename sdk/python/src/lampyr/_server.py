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
from typing import IO

from ._binary import Binary, Path, complaint
from .errors import ConnectionFailed

#: How long it may take to listen, in seconds.
START = 60.0
#: How long it may take to stop all that is attached when we end, in seconds.
STOP = 20.0
#: The longest first line, in bytes.
MAX_LINE = 64 * 1024


class Server:
    """A server that is there when its address is asked for."""

    def __init__(self, binary: Binary) -> None:
        self.binary = binary
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def running(self) -> str | None:
        """Where it listens, if it runs. Does not wait."""
        process, address = self._process, self._address
        return address if process is not None and process.poll() is None else None

    def address(self) -> str:
        """The path of its socket. Starts it where it does not run."""
        with self._lock:
            running = self.running()
            if running is None:
                if self._process is not None:
                    _reap(self._process)
                self._process, self._address = _start(self.binary)
            return running or self._address

    def end(self) -> None:
        """Ends it, and waits until it is gone."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            _reap(process)

    def forget(self) -> None:
        """In a child of a fork: the server is our parent's. Its standard input
        is closed here, or it would live as long as we do."""
        process, self._process = self._process, None
        self._lock = threading.Lock()
        if process is not None and process.stdin is not None:
            process.stdin.close()
            # It is no child of ours, so that there is nothing to wait for.
            process.returncode = 0


def _start(binary: Binary) -> tuple[subprocess.Popen[bytes], str]:
    with tempfile.TemporaryFile() as said:
        # In a session of its own: what Ctrl-C means is for us to say.
        process = subprocess.Popen(
            binary.argv("serve", "--parent"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            bufsize=0,
            env=binary.env(),
            start_new_session=True,
        )
        try:
            return process, str(json.loads(_first_line(process))["socket"])
        except BaseException as error:
            raise _not_started(error, _reap(process), said) from error


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
