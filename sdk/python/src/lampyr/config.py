"""What is asked for: snapshots to build, sandboxes to launch, commands to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, TypeVar, Union

from .errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """How large a VM is; what is left out is as the server's settings have it."""

    cpus: int | None = None
    #: `"512M"` or `"2G"`, in binary multiples; a string only.
    memory: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.memory, (str, type(None))):
            raise UsageError('resources: memory is a string, as in "512M" or "2G"')


@dataclass(frozen=True)
class ShellStep:
    """A script that /bin/sh runs; see `shell`."""

    script: str
    description: str | None = None


@dataclass(frozen=True)
class ExecStep:
    """A program that is run without a shell; see `exec_`."""

    cmd: str
    args: Sequence[str] = ()
    description: str | None = None


#: A step of a setup. A string is a script.
SetupStep = Union[str, ShellStep, ExecStep]


def shell(script: str, description: str | None = None) -> ShellStep:
    """A step of a setup: a script that /bin/sh runs."""
    return ShellStep(script, description)


def exec_(cmd: str, args: Sequence[str] = (), description: str | None = None) -> ExecStep:
    """A step of a setup: a program and its arguments, run without a shell."""
    return ExecStep(cmd, args, description)


@dataclass(frozen=True)
class SnapshotConfig:
    """How a snapshot is built: an image, and what is done in a VM of it."""

    #: The snapshot's name.
    name: str
    #: The image to start from: a name, or a registry's.
    image: str
    resources: Resources | None = None
    #: Where the steps run, absolute; it must be there or be made by a step.
    workdir: str | None = None
    #: Environment variables of the steps.
    env: Mapping[str, str] | None = None
    #: What is done, in order.
    setup: Sequence[SetupStep] = ()
    #: What is noted about the snapshot.
    labels: Mapping[str, str] | None = None
    #: What the steps may reach, as rules: `"pypi.org:443"`. Nothing of it is
    #: left open in what is launched from the snapshot.
    net: Sequence[str] | None = None


def define_snapshot(config: SnapshotConfig | Mapping[str, Any]) -> SnapshotConfig:
    """A config as it is, or one made of a document, as a TOML or JSON file has it.

    Raises `UsageError` for a key that there is not.
    """
    if isinstance(config, SnapshotConfig):
        return config
    document = dict(config)
    if "resources" in document:
        document["resources"] = _made(Resources, document["resources"], "resources")
    document["setup"] = [_step(step) for step in document.get("setup") or ()]
    return _made(SnapshotConfig, document, "the config")


def _step(step: SetupStep | Mapping[str, Any]) -> SetupStep:
    if not isinstance(step, Mapping):
        return step
    document = dict(step)
    kind = document.pop("kind", None)
    if kind == "shell":
        return _made(ShellStep, document, "setup")
    if kind == "exec":
        return _made(ExecStep, document, "setup")
    raise UsageError(f"setup: a step has the kind 'shell' or 'exec', not {kind!r}")


def _made(cls: type[T], document: Mapping[str, Any], what: str) -> T:
    known = [each.name for each in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(document.keys() - set(known))
    if unknown:
        raise UsageError(f"{what}: unknown key '{unknown[0]}'", hint="it has " + ", ".join(known))
    try:
        return cls(**document)
    except TypeError as error:
        raise UsageError(f"{what}: {error}") from error


def document(config: SnapshotConfig) -> dict[str, Any]:
    """A config as the server takes it."""
    setup: list[Any] = [_written(step) for step in config.setup]
    written = {**_said(config), "setup": setup}
    if config.resources is not None:
        written["resources"] = _said(config.resources)
    return written


def _written(step: SetupStep) -> str | dict[str, Any]:
    if isinstance(step, str):
        return step
    return {"kind": "shell" if isinstance(step, ShellStep) else "exec", **_said(step)}


def _said(value: Any) -> dict[str, Any]:
    said = given(value)
    return {key: dict(was) if isinstance(was, Mapping) else was for key, was in said.items()}


def given(value: Any) -> dict[str, Any]:
    """What was said, without what was left out."""
    return {key: was for key, was in vars(value).items() if was is not None}


@dataclass(frozen=True)
class Mount:
    """What a sandbox sees at a path: either a directory of this host, or a
    volume by its name, which is made where it is missing."""

    directory: str | os.PathLike[str] | None = None
    volume: str | None = None
    readonly: bool = False


@dataclass(frozen=True)
class Secret:
    """A value that requests to one host get on their way out, and that the
    sandbox never has."""

    #: The host that it is for, which a rule of `net` must open.
    host: str
    value: str = field(repr=False)
    #: The header that it goes into; `authorization` where it is left out.
    header: str | None = None


class LaunchOptions(TypedDict, total=False):
    """How a sandbox is launched. All of it can be left out."""

    #: The snapshot to start from; either this or `image`.
    snapshot: str
    #: The image to start from: a name, or a registry's.
    image: str
    #: A name to call it by.
    name: str
    resources: Resources
    #: The size of its disk, as in `"8GB"`.
    disk_size: str
    #: Where commands start that have no `cwd`, absolute.
    workdir: str
    #: Environment variables of all that runs in it.
    env: Mapping[str, str]
    #: Ports of 127.0.0.1 here that lead to ports of its: `{8080: 80}`.
    ports: Mapping[int, int]
    #: What of this host it sees, by where it sees it: a directory or a `Mount`.
    mounts: Mapping[str, str | os.PathLike[str] | Mount]
    #: What it may reach: `"none"`, `"public"`, or rules, as in
    #: `["pypi.org:443"]`. Nothing where it is left out.
    net: str | Sequence[str]
    #: Values for its requests, by the variable that has a placeholder in it.
    secrets: Mapping[str, Secret]
    #: It ends after so many seconds without a command or a client.
    ttl: float
    #: How many points `undo` can go back to: one is kept before each command.
    checkpoints: int
    #: An earlier one of the same name is stopped first (`True` where it is left
    #: out), or is in the way.
    overwrite: bool


class ExecOptions(TypedDict, total=False):
    """How a command is run. All of it can be left out."""

    #: Environment variables, over the sandbox's.
    env: Mapping[str, str]
    #: The directory it starts in, absolute.
    cwd: str
    #: Its standard input, 20 MiB at most. For more, copy a file in.
    stdin: str | bytes
    #: How many seconds it may run; as long as it likes where it is left out.
    timeout: float
    #: As whom it runs, by name or number; the image's user, or root.
    user: str
