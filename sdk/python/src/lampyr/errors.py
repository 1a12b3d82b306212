"""What can go wrong: one exception for each kind of failure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .results import ExecResult


class LampyrError(Exception):
    """A call that came to nothing.

    `kind` is one word for the kind of failure, `message` one sentence, `hint` a
    next step where there is one. `status` is the HTTP status where the server
    refused the call: 404 where there is no such thing, 409 where something is
    in the way, 410 where a sandbox has ended, 422 where a snapshot is damaged or
    does not fit this host.
    """

    kind = "connection_failed"

    def __init__(
        self,
        message: str,
        *,
        kind: str | None = None,
        hint: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status
        if kind is not None:
            self.kind = kind

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(LampyrError):
    """What was asked for makes no sense, or is in conflict with what is there."""

    kind = "usage"


class ConnectionFailed(LampyrError):
    """The VM did not start or could not be reached: no such image, sandbox or
    snapshot, one that is damaged or does not fit this host, no `lampyr` program,
    a failed boot."""

    kind = "connection_failed"


class CommandError(LampyrError):
    """A command that was started and did not run to its end.

    What it had said until then is in `partial_stdout` and `partial_stderr`; a
    stream has given that already. `duration_ms` is how long it ran.
    """

    partial_stdout: bytes = b""
    partial_stderr: bytes = b""
    duration_ms: int = 0


class CommandTimeout(CommandError):
    """It ran longer than its `timeout`."""

    kind = "timeout"


class VmCrashed(CommandError):
    """The VM ended by itself under the command."""

    kind = "vm_crashed"


class SessionDisconnected(CommandError):
    """The sandbox was stopped under the command, or its owner died."""

    kind = "session_disconnected"


class CommandFailed(LampyrError):
    """A command ran to its end with another exit code than 0.

    Only `ExecResult.check` raises it; `result` is how the command went.
    """

    kind = "command_failed"

    def __init__(self, message: str, result: ExecResult | None = None) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class FailedStep:
    """A step of a setup that failed."""

    #: Which, counted from 1.
    index: int
    #: Of how many.
    count: int
    description: str
    exit_code: int


class SetupFailed(LampyrError):
    """A step of a snapshot's setup failed.

    `step` says which; `output` is the tail of what it said. Its `kind` is
    `connection_failed`.
    """

    step: FailedStep | None = None
    output: str = ""


_BY_KIND: dict[str, type[LampyrError]] = {
    error.kind: error
    for error in (UsageError, ConnectionFailed, CommandTimeout, VmCrashed, SessionDisconnected)
}


def told(body: Mapping[str, Any], status: int | None = None) -> LampyrError:
    """The exception for an error object of the server's."""
    kind = str(body.get("error", "connection_failed"))
    message = str(body.get("message", f"the server answered with status {status}"))
    error = SetupFailed if body.get("step") is not None else _BY_KIND.get(kind, LampyrError)
    return error(message, kind=kind, hint=body.get("hint"), status=status)
