"""HTTP/1.1 as the server speaks it, without any I/O: what a request looks like,
and an answer that is fed bytes. Each request has a connection of its own, so
that whoever breaks off needs to tell nobody."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .errors import ConnectionFailed, told

#: The longest head of an answer and the longest line of a chunk, in bytes.
MAX_HEAD = 64 * 1024


@dataclass(frozen=True)
class Request:
    """A request. `target` is the path with its query."""

    method: str
    target: str
    body: bytes = b""
    content_type: str = "application/json"
    accept: str = "application/json"

    def encode(self) -> bytes:
        """The request as bytes."""
        head = (
            f"{self.method} {self.target} HTTP/1.1\r\n"
            "Host: localhost\r\n"
            "Connection: close\r\n"
            f"Accept: {self.accept}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        )
        return head.encode("ascii") + self.body


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes

    def check(self) -> Reply:
        """Itself, unless it tells of a failure."""
        if self.status < 400:
            return self
        try:
            body = json.loads(self.body)
        except ValueError:
            body = None
        raise told(body if isinstance(body, dict) else {}, self.status)

    def json(self) -> Any:
        """The object in it."""
        return json.loads(self.check().body)


class Answer:
    """An answer that is fed bytes. `status` is 0 until its head is there."""

    def __init__(self) -> None:
        self.status = 0
        self.done = False
        self._bytes = bytearray()
        self._body = bytearray()
        self._left = 0
        self._chunked = False

    def feed(self, data: bytes) -> None:
        """Takes what came; nothing at all is the end of the connection."""
        if not data:
            raise ConnectionFailed("the server broke off")
        self._bytes += data
        while not self.done and self._step():
            pass

    def take(self) -> bytes:
        """What has come of the body since this was last called."""
        taken, self._body = bytes(self._body), bytearray()
        return taken

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._body)

    def _step(self) -> bool:
        """Reads one thing, if all of it is there."""
        if not self.status:
            return self._read_head()
        if self._left:
            return self._read_piece()
        return self._read_size()

    def _read_head(self) -> bool:
        head = self._until(b"\r\n\r\n")
        if head is None:
            return False
        first, *rest = head.decode("latin-1").split("\r\n")
        headers = _headers(rest)
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        try:
            self.status = int(first.split(" ")[1])
            self._left = int(headers.get("content-length", "0"))
        except (IndexError, ValueError):
            raise _gibberish() from None
        self.done = not self._chunked and not self._left
        return True

    def _read_piece(self) -> bool:
        piece = self._bytes[: self._left]
        del self._bytes[: len(piece)]
        self._body += piece
        self._left -= len(piece)
        self.done = not self._chunked and not self._left
        return bool(piece)

    def _read_size(self) -> bool:
        line = self._until(b"\r\n")
        if not line:
            # An empty line ends the chunk before.
            return line is not None
        try:
            self._left = int(line.split(b";")[0], 16)
        except ValueError:
            raise _gibberish() from None
        self.done = not self._left
        return True

    def _until(self, mark: bytes) -> bytes | None:
        end = self._bytes.find(mark)
        if end < 0:
            if len(self._bytes) > MAX_HEAD:
                raise _gibberish()
            return None
        found = bytes(self._bytes[:end])
        del self._bytes[: end + len(mark)]
        return found


def _headers(lines: list[str]) -> dict[str, str]:
    split = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in split}


def _gibberish() -> ConnectionFailed:
    return ConnectionFailed("the server does not speak HTTP/1.1")
