"""What comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .errors import CommandFailed

T = TypeVar("T")


@dataclass(frozen=True)
class ExecResult:
    """How a command went that ran to its end, whatever its exit code."""

    #: Its exit code; 128+n where signal n ended it.
    code: int
    #: Its standard output, byte for byte.
    stdout_bytes: bytes = b""
    #: Its standard error, byte for byte.
    stderr_bytes: bytes = b""
    #: How long it took, seen from the host.
    duration_ms: int = 0
    #: What it used, what of the network was refused, what was cut.
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stdout(self) -> str:
        """Its standard output; bytes that are no UTF-8 appear as U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Its standard error, likewise."""
        return self.stderr_bytes.decode("utf-8", "replace")

    def check(self) -> ExecResult:
        """Itself; raises `CommandFailed` where the exit code is not 0."""
        if self.code != 0:
            last = self.stderr.strip().rpartition("\n")[2][:200]
            raise CommandFailed(f"exit code {self.code}" + (f": {last}" if last else ""), self)
        return self


@dataclass(frozen=True)
class Output:
    """A piece of what a command says."""

    #: `"stdout"` or `"stderr"`.
    stream: str
    data: bytes

    @property
    def text(self) -> str:
        """The piece as text. A character is never split between two pieces."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True)
class SandboxInfo:
    """What is known of a sandbox."""

    id: str
    #: The image that it was started from.
    image: str
    cpus: int
    #: Its memory in bytes.
    memory: int
    #: When it was started, as RFC 3339 has it.
    created: str
    #: `"running"` or `"dead"`.
    status: str
    #: Whether it ends with this process.
    attached: bool
    #: The process that owns its VM.
    pid: int
    name: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A snapshot: disk and memory of a VM at one instant. Sizes are in bytes."""

    name: str
    #: The digest of its manifest.
    digest: str
    #: When it was taken, as RFC 3339 has it.
    created: str
    image: str
    cpus: int
    memory: int
    disk_size: int
    #: Whether its VM has a network card.
    network: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    #: What it was built on: `{"digest": …, "name": … or None}`.
    parent: Mapping[str, str | None] | None = None
    #: What it takes on this host that no other has.
    own_bytes: int = 0
    #: What it takes with all that it was built on.
    total_bytes: int = 0
    #: For how long its VM stood still.
    pause_ms: float | None = None
    #: Nothing had changed since it was built before.
    cached: bool = False
    #: What is wrong with it, where it cannot be read: all else but its name is
    #: empty then, and it can be removed.
    damaged: str | None = None


@dataclass(frozen=True)
class LogEntry:
    """A command that `undo` can take back."""

    index: int
    #: When it was run, as RFC 3339 has it.
    at: str
    command: str


@dataclass(frozen=True)
class Undone:
    """A sandbox that is again as it was."""

    #: The command before which it is now.
    undone_to: int
    #: How long that took.
    pause_ms: float


@dataclass(frozen=True)
class Volume:
    """A directory that outlives the sandboxes that it is in. Sizes are in bytes."""

    name: str
    size_bytes: int
    #: When it was made, as RFC 3339 has it.
    created: str
    #: The most that may be in it.
    quota_bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    #: When it was last mounted, as RFC 3339 has it.
    last_used: str | None = None


def made(cls: type[T], body: dict[str, Any]) -> T:
    """An object of the server's. What we do not know is a later server's."""
    known = {each.name for each in fields(cls)}  # type: ignore[arg-type]
    return cls(**{key: value for key, value in body.items() if key in known})
