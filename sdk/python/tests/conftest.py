"""What the tests share: a sandbox, names, and programs that use the package."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Callable

import pytest

import lampyr
from lampyr._binary import Binary
from lampyr._calls import Call
from lampyr._http import Request

#: How long a program of a test may run, in seconds.
LIMIT = 60


@pytest.fixture(scope="session")
def box() -> Iterator[lampyr.Sandbox]:
    """A sandbox that many tests use, each without disturbing the others."""
    with lampyr.launch_sandbox(name=fresh()) as sandbox:
        yield sandbox


@pytest.fixture
def name() -> str:
    """A name that nobody has."""
    return fresh()


def served(route: str) -> bool:
    """Whether this lampyr has a route with this in its path."""
    document = Call(Request("GET", "/openapi.json"), lambda reply: reply.json())
    return any(route in path for path in lampyr._client._perform(document)["paths"])


def fresh() -> str:
    return f"py-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a Python program with arguments, on pipes; it ends with the test."""
    started = []

    def start(text: str, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", text, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=LIMIT)


def fate(sandbox: str) -> str:
    """What somebody else, who knows nothing of us, is told of a sandbox."""
    argv = Binary(None, None).argv("exec", sandbox, "true")
    said = subprocess.run(argv, capture_output=True, timeout=LIMIT, check=False).stdout
    return str(json.loads(said).get("message", "running"))


def is_gone(sandbox: str) -> bool:
    """Whether nobody can use a sandbox any more."""
    told = fate(sandbox)
    return "has ended" in told or "not found" in told
