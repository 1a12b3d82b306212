"""Every example of the README is run, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import LIMIT, served

import lampyr

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^## (.+?)$|^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NEEDS = {"build_snapshot": "/v1/snapshots/build", ".fork(": "fork", ".undo(": "undo"}


def examples() -> list[tuple[str, str]]:
    """Each example, and under which heading it is."""
    heading, found = "", []
    for title, code in BLOCKS:
        heading = title or heading
        if code:
            found.append((heading, code))
    return found


@pytest.fixture(autouse=True, scope="module")
def tidy() -> Iterator[None]:
    """What the examples leave."""
    yield
    # With several workers another one may be at it.
    with suppress(lampyr.LampyrError):
        lampyr.remove_volume("readme-cache")


def test_there_are_examples() -> None:
    assert len(examples()) == README.count("```python") > 9


@pytest.mark.parametrize("code", [pytest.param(code, id=title) for title, code in examples()])
def test_an_example(code: str) -> None:
    for word, route in NEEDS.items():
        if word in code and not served(route):
            pytest.skip(f"this lampyr serves no {route}")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == re.findall(r"^\s*# > (.*)$", code, re.MULTILINE)
