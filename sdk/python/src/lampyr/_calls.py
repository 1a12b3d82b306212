"""Every call of the server's: the request, and how its answer is read. No I/O;
both APIs perform these."""

from __future__ import annotations

import json
import math
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Generic, TypeVar
from urllib.parse import quote, urlencode

from ._events import whole
from ._http import Reply, Request
from .config import ExecOptions, LaunchOptions, Mount, Secret, SnapshotConfig, document, given
from .errors import CommandError, LampyrError, UsageError, told
from .results import ExecResult, LogEntry, SandboxInfo, Snapshot, Undone, Volume, made

T = TypeVar("T")
EVENTS = "text/event-stream"
#: What is made of an option, by its name.
Forms = Mapping[str, Callable[[Any], Any]]


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read."""

    request: Request
    read: Callable[[Reply], T]


def health() -> Call[str]:
    """The server's version."""
    return Call(Request("GET", "/v1/health"), lambda reply: str(reply.json()["version"]))


# Sandboxes


def launch(options: LaunchOptions) -> Call[SandboxInfo]:
    request = Request("POST", "/v1/sandboxes", _json(_launch(options)))
    return Call(request, _info)


def inspect(sandbox: str) -> Call[SandboxInfo]:
    return Call(Request("GET", _sandbox(sandbox)), _info)


def stop(sandbox: str, grace: float | None, force: bool) -> Call[None]:
    query = {} if grace is None else {"grace": _span(grace)}
    target = _sandbox(sandbox) + _query({**query, **_force(force)})
    return Call(Request("DELETE", target), _gone)


def list_sandboxes() -> Call[list[SandboxInfo]]:
    request = Request("GET", "/v1/sandboxes")
    return Call(request, lambda reply: [made(SandboxInfo, each) for each in reply.json()])


def ended(sandbox: str) -> Call[None]:
    """Raises `UsageError` where it runs."""
    return Call(Request("GET", _sandbox(sandbox)), lambda reply: _ended(sandbox, reply))


def detach(sandbox: str) -> Call[SandboxInfo]:
    return Call(Request("POST", _sandbox(sandbox, "/detach")), _info)


def fork(sandbox: str, count: int, detached: bool, with_secrets: bool) -> Call[list[SandboxInfo]]:
    body = _json({"count": count, "detached": detached, "with_secrets": with_secrets})
    request = Request("POST", _sandbox(sandbox, "/fork"), body)
    return Call(request, lambda r: [made(SandboxInfo, each) for each in r.json()["sandboxes"]])


def log(sandbox: str) -> Call[list[LogEntry]]:
    request = Request("GET", _sandbox(sandbox, "/log"))
    return Call(request, lambda reply: [made(LogEntry, each) for each in reply.json()])


def undo(sandbox: str, to: int | None) -> Call[Undone]:
    body = _json({} if to is None else {"to": to})
    request = Request("POST", _sandbox(sandbox, "/undo"), body)
    return Call(request, lambda reply: made(Undone, reply.json()))


# Commands and files


def program(cmd: str, args: Sequence[str], options: ExecOptions) -> dict[str, Any]:
    """A program to run without a shell."""
    return {"argv": [cmd, *args], **_exec(options)}


def script(text: str, options: ExecOptions) -> dict[str, Any]:
    """A script that /bin/sh runs."""
    return {"command": text, **_exec(options)}


def run(sandbox: str, command: dict[str, Any]) -> Call[ExecResult]:
    """Runs a command to its end."""
    return Call(Request("POST", _sandbox(sandbox, "/exec"), _json(command)), _result)


def stream(sandbox: str, command: dict[str, Any]) -> Request:
    """Runs a command, and tells `CommandEvents`."""
    return Request("POST", _sandbox(sandbox, "/exec"), _json(command), accept=EVENTS)


def read_file(sandbox: str, path: str) -> Call[bytes]:
    request = Request("GET", _sandbox(sandbox, "/files") + _query({"path": path}), accept="*/*")
    return Call(request, lambda reply: reply.check().body)


def write_file(
    sandbox: str, path: str, data: str | bytes, mode: int | None, parents: bool
) -> Call[None]:
    query = {"path": path, "parents": "true" if parents else "false"}
    if mode is not None:
        query["mode"] = f"{mode:04o}"
    target = _sandbox(sandbox, "/files") + _query(query)
    return Call(Request("PUT", target, _bytes(data), "application/octet-stream"), _nothing)


# Snapshots


def build(config: SnapshotConfig, overwrite: bool, debug_builder: bool) -> Request:
    """Builds a snapshot, and tells `BuildEvents`."""
    asked = {"config": document(config), "overwrite": overwrite, "debugBuilder": debug_builder}
    return Request("POST", "/v1/snapshots/build", _json(asked), accept=EVENTS)


def snapshot(
    sandbox: str,
    name: str,
    overwrite: bool,
    labels: Mapping[str, str] | None,
    with_secrets: bool,
) -> Call[Snapshot]:
    asked = {
        "sandbox": sandbox,
        "name": name,
        "overwrite": overwrite,
        "labels": dict(labels or {}),
        "with_secrets": with_secrets,
    }
    return Call(Request("POST", "/v1/snapshots", _json(asked)), _snapshot)


def list_snapshots() -> Call[list[Snapshot]]:
    request = Request("GET", "/v1/snapshots")
    return Call(request, lambda reply: [made(Snapshot, each) for each in reply.json()])


def snapshot_exists(name: str) -> Call[bool]:
    return Call(Request("GET", _named("snapshots", name)), _snapshot_exists)


def remove_snapshot(name: str, force: bool) -> Call[list[str]]:
    target = _named("snapshots", name) + _query(_force(force))
    return Call(Request("DELETE", target), _removed)


# Volumes


def list_volumes() -> Call[list[Volume]]:
    request = Request("GET", "/v1/volumes")
    return Call(request, lambda reply: [made(Volume, each) for each in reply.json()])


def volume_exists(name: str) -> Call[bool]:
    return Call(Request("GET", _named("volumes", name)), _exists)


def ensure_volume(
    name: str, quota_mib: int | None, labels: Mapping[str, str] | None
) -> Call[Volume]:
    asked: dict[str, Any] = {"labels": dict(labels or {})}
    if quota_mib is not None:
        asked["quota"] = f"{quota_mib}MB"
    request = Request("PUT", _named("volumes", name), _json(asked))
    return Call(request, lambda reply: made(Volume, reply.json()))


def remove_volume(name: str) -> Call[None]:
    return Call(Request("DELETE", _named("volumes", name)), _gone)


# What is asked


def _launch(options: LaunchOptions) -> dict[str, Any]:
    forms: Forms = {
        "env": dict,
        "mounts": _mounts,
        "resources": given,
        "secrets": _secrets,
        "ttl": _span,
    }
    asked = _said(options, LaunchOptions, forms)
    asked.update(asked.pop("resources", {}))
    if not isinstance(asked.get("net", ""), str):
        asked["policy"] = {"rules": list(asked.pop("net"))}
    return asked


def _secrets(secrets: Mapping[str, Secret]) -> dict[str, Any]:
    return {variable: given(secret) for variable, secret in secrets.items()}


def _mounts(mounts: Mapping[str, str | os.PathLike[str] | Mount]) -> dict[str, Any]:
    return {place: _mount(what) for place, what in mounts.items()}


def _mount(what: str | os.PathLike[str] | Mount) -> dict[str, Any]:
    """The server's own directory is not ours: a path is made absolute."""
    mount = what if isinstance(what, Mount) else Mount(directory=what)
    asked: dict[str, Any] = {"readonly": mount.readonly}
    if mount.directory is not None:
        asked["directory"] = os.path.abspath(mount.directory)
    if mount.volume is not None:
        asked["volume"] = mount.volume
    return asked


def _exec(options: ExecOptions) -> dict[str, Any]:
    asked = _said(options, ExecOptions, {"env": dict, "stdin": _base64, "timeout": _span})
    names = {"cwd": "workdir", "stdin": "stdin_bytes"}
    return {names.get(key, key): value for key, value in asked.items()}


def _said(options: Mapping[str, Any], of: type, forms: Forms) -> dict[str, Any]:
    """What was said, in the form that the server takes. Python itself lets
    `**options` be anything."""
    known = of.__annotations__
    for key in options.keys() - known.keys():
        raise TypeError(f"unexpected keyword argument '{key}'; there are {', '.join(known)}")
    said = {key: value for key, value in options.items() if value is not None}
    return {key: forms[key](value) if key in forms else value for key, value in said.items()}


def _base64(data: str | bytes) -> str:
    return b64encode(_bytes(data)).decode("ascii")


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode("ascii")


def _bytes(data: str | bytes) -> bytes:
    return data.encode("utf-8") if isinstance(data, str) else bytes(data)


def _span(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000)}ms"


def _sandbox(sandbox: str, rest: str = "") -> str:
    return _named("sandboxes", sandbox) + rest


def _named(what: str, name: str) -> str:
    return f"/v1/{what}/{quote(name, safe='')}"


def _force(force: bool) -> dict[str, str]:
    return {"force": "true"} if force else {}


def _query(query: Mapping[str, str]) -> str:
    return "?" + urlencode(query, quote_via=quote) if query else ""


# What is answered


def _nothing(reply: Reply) -> None:
    reply.check()


def _ended(sandbox: str, reply: Reply) -> None:
    if reply.status not in (404, 410):
        reply.check()
        hint = "stop it, or remove it with force=True"
        raise UsageError(f"sandbox '{sandbox}' is running", hint=hint, status=409)


def _gone(reply: Reply) -> None:
    if reply.status != 404:
        reply.check()


def _info(reply: Reply) -> SandboxInfo:
    return made(SandboxInfo, reply.json())


def _snapshot(reply: Reply) -> Snapshot:
    return made(Snapshot, reply.json())


def _removed(reply: Reply) -> list[str]:
    return [] if reply.status == 404 else list(reply.json()["removed"])


def _snapshot_exists(reply: Reply) -> bool:
    """One that is damaged is there."""
    return reply.status == 422 or _exists(reply)


def _exists(reply: Reply) -> bool:
    return reply.status != 404 and bool(reply.check())


def _result(reply: Reply) -> ExecResult:
    """An envelope; see docs/reference/envelope.md."""
    body = reply.json()
    if "error" in body:
        raise _cut_short(body)
    return ExecResult(
        code=body["exit_code"],
        stdout_bytes=whole(body["stdout"], body.get("stdout_bytes")),
        stderr_bytes=whole(body["stderr"], body.get("stderr_bytes")),
        duration_ms=body["duration_ms"],
        meta=body.get("meta") or {},
    )


def _cut_short(body: dict[str, Any]) -> LampyrError:
    error = told(body)
    if isinstance(error, CommandError):
        error.partial_stdout = whole(body.get("partial_stdout"), body.get("stdout_bytes"))
        error.partial_stderr = whole(body.get("partial_stderr"), body.get("stderr_bytes"))
        error.duration_ms = body["duration_ms"]
    return error
