"""A request on its way, and its answer as it comes: once with sockets that
block, once with asyncio. Closing breaks it off, which ends what it began."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from ._http import Answer, Reply, Request
from .errors import ConnectionFailed

#: How much is taken at once, in bytes.
PIECE = 64 * 1024


class Connection:
    """A connection for one request."""

    def __init__(self, address: str, request: Request) -> None:
        self._answer = Answer()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(address)
            self._send(request.encode())
        except OSError as error:
            self.close()
            raise _unreachable(error) from error
        except BaseException:
            self.close()
            raise

    def _send(self, data: bytes) -> None:
        # One that is refused before its end is answered all the same.
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(PIECE)
        except OSError:
            # It broke, or was closed by another thread.
            data = b""
        self._answer.feed(data)

    def status(self) -> int:
        """The status, once it is there."""
        while not self._answer.status:
            self._receive()
        return self._answer.status

    def read(self) -> bytes:
        """The next piece of the body, once there is one; nothing at its end."""
        while not self._answer.done and not self._answer.waiting:
            self._receive()
        return self._answer.take()

    def reply(self) -> Reply:
        """All of the answer."""
        return Reply(self.status(), b"".join(iter(self.read, b"")))

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class AsyncConnection:
    """A connection for one request, with asyncio."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._answer = Answer()
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str, request: Request) -> AsyncConnection:
        """Connects and asks."""
        try:
            connection = cls(*await asyncio.open_unix_connection(address))
        except OSError as error:
            raise _unreachable(error) from error
        try:
            await connection._send(request.encode())
        except BaseException:
            connection.close()
            raise
        return connection

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        with suppress(ConnectionError):
            await self._writer.drain()

    async def _receive(self) -> None:
        try:
            data = await self._reader.read(PIECE)
        except ConnectionError:
            data = b""
        self._answer.feed(data)

    async def status(self) -> int:
        """The status, once it is there."""
        while not self._answer.status:
            await self._receive()
        return self._answer.status

    async def read(self) -> bytes:
        """The next piece of the body, once there is one; nothing at its end."""
        while not self._answer.done and not self._answer.waiting:
            await self._receive()
        return self._answer.take()

    async def reply(self) -> Reply:
        """All of the answer."""
        status, body = await self.status(), bytearray()
        while True:
            piece = await self.read()
            if not piece:
                return Reply(status, bytes(body))
            body += piece

    def close(self) -> None:
        # What was sent is out, and nothing of ours is worth waiting for.
        self._writer.transport.abort()

    async def __aenter__(self) -> AsyncConnection:
        return self

    async def __aexit__(self, *failure: object) -> None:
        self.close()


def _unreachable(error: OSError) -> ConnectionFailed:
    return ConnectionFailed(f"the server cannot be reached: {error}")
