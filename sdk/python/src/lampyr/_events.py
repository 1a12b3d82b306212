"""Server-Sent Events, and what two of the routes tell with them. No I/O."""

from __future__ import annotations

import json
import sys
from base64 import b64decode
from collections import deque
from typing import Any

from .errors import (
    ConnectionFailed,
    FailedStep,
    LampyrError,
    SessionDisconnected,
    SetupFailed,
    told,
)
from .results import Output, Snapshot, made

Event = tuple[str, dict[str, Any]]


class Events:
    """A stream of events that is fed bytes. One event is one line of data."""

    def __init__(self) -> None:
        self._bytes = b""
        self._name = ""

    def feed(self, data: bytes) -> list[Event]:
        """The events that are whole with what came."""
        *lines, self._bytes = (self._bytes + data).split(b"\n")
        return [event for event in map(self._line, lines) if event is not None]

    def _line(self, line: bytes) -> Event | None:
        key, _, value = line.decode("utf-8").partition(": ")
        if key == "event":
            self._name = value
        return (self._name, json.loads(value)) if key == "data" else None


class CommandEvents:
    """What a command says and how it ends."""

    def __init__(self) -> None:
        self.pieces: deque[Output] = deque()
        self.end: dict[str, Any] | None = None
        self._events = Events()

    def feed(self, data: bytes) -> None:
        """Takes what came; nothing is the end of the stream."""
        if not data:
            raise SessionDisconnected("the server broke off before the command ended")
        for name, body in self._events.feed(data):
            if name == "output":
                self.pieces.append(piece(body))
            elif name == "end":
                self.end = body

    @property
    def code(self) -> int | None:
        """The exit code, once there is one."""
        return None if self.end is None else self.end.get("exit_code")

    def check(self) -> None:
        """Raises what went wrong."""
        if self.end is not None and "error" in self.end:
            raise told(self.end)


class BuildEvents:
    """How the build of a snapshot goes."""

    def __init__(self, verbose: bool) -> None:
        self.built: Snapshot | None = None
        self._verbose = verbose
        self._events = Events()

    def feed(self, data: bytes) -> None:
        """Takes what came; nothing is the end of the stream. Raises what the
        build failed of."""
        if not data:
            raise ConnectionFailed("the server broke off before the snapshot was built")
        for name, body in self._events.feed(data):
            self._hear(name, body)

    def _hear(self, name: str, body: dict[str, Any]) -> None:
        if name == "built":
            self.built = made(Snapshot, body)
        elif name == "failed":
            raise _failed(body)
        elif self._verbose and name == "step":
            _say(f"step {body['index']} of {body['count']}: {body['description']}\n")
        elif self._verbose and name == "output":
            _say(piece(body).text)


def piece(body: dict[str, Any]) -> Output:
    """A piece of output, byte for byte."""
    return Output(body["stream"], whole(body["data"], body.get("data_bytes")))


def whole(text: str | None, base64: str | None) -> bytes:
    """Bytes that are told as text, and in base64 where they are none."""
    return (text or "").encode("utf-8") if base64 is None else b64decode(base64)


def _failed(body: dict[str, Any]) -> LampyrError:
    error = told(body)
    if isinstance(error, SetupFailed):
        error.step = made(FailedStep, body["step"])
        error.output = body.get("output") or ""
    return error


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
