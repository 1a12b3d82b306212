"""What becomes of sandboxes when processes end, fork or are killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from conftest import LIMIT, is_gone

import lampyr

Start = Callable[..., "subprocess.Popen[str]"]

LAUNCH = """
import lampyr, sys
box = lampyr.launch_sandbox(name=sys.argv[1])
print(box.inspect().pid, flush=True)
"""
WAIT = LAUNCH + "sys.stdin.read()"


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_for_end(pid: int) -> None:
    """Waits until a process that is no child of ours has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([watched], [], [], LIMIT)
    os.close(watched)
    assert ended, f"process {pid} goes on"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_process_that_is_killed_takes_its_sandbox_along(name: str, program: Start) -> None:
    process = program(WAIT, name)
    owner = int(line(process))
    process.send_signal(signal.SIGKILL)
    wait_for_end(owner)
    assert is_gone(name)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")
def test_a_child_of_a_killed_process_keeps_no_sandbox(name: str, program: Start) -> None:
    fork = "\nimport os\nif os.fork() == 0:\n    sys.stdin.read(); os._exit(0)\nsys.stdin.read()"
    process = program(LAUNCH + fork, name)
    owner = int(line(process))
    process.send_signal(signal.SIGKILL)
    wait_for_end(owner)
    assert is_gone(name)


def test_a_process_that_ends_has_stopped_its_sandbox(name: str, program: Start) -> None:
    process = program(LAUNCH, name)
    assert process.wait(LIMIT) == 0
    assert is_gone(name)


def test_an_error_leaves_nothing(name: str, program: Start) -> None:
    script = "import lampyr, sys\nwith lampyr.launch_sandbox(name=sys.argv[1]): sys.exit(7)"
    assert program(script, name).wait(LIMIT) == 7
    assert is_gone(name)


def test_what_is_detached_survives(name: str, program: Start) -> None:
    process = program(LAUNCH + "box.detach()", name)
    assert process.wait(LIMIT) == 0
    box = lampyr.connect_to_sandbox(name)
    assert not box.info.attached
    assert box.shell("echo alive").stdout == "alive\n"
    box.stop(force=True)
    assert is_gone(name)


def test_a_detached_sandbox_survives_a_kill(name: str, program: Start) -> None:
    process = program(LAUNCH + "box.detach(); print('detached', flush=True); input()", name)
    line(process)
    assert line(process) == "detached"
    process.kill()
    process.wait(LIMIT)
    with lampyr.connect_to_sandbox(name) as box:
        assert box.shell("echo alive").stdout == "alive\n"
        box.stop(force=True)


def test_ctrl_c_stops_the_command_and_then_the_sandbox(name: str) -> None:
    script = (
        "import lampyr, sys\n"
        "with lampyr.launch_sandbox(name=sys.argv[1]) as box:\n"
        "    try:\n"
        "        for piece in box.shell_stream('echo on; exec sleep 600'):\n"
        "            print(piece.text, end='', flush=True)\n"
        "    except KeyboardInterrupt:\n"
        "        print(box.shell('echo after').stdout, end='', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, name],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert line(process) == "on"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=LIMIT)[0] == "after\n"
    assert process.returncode == 0
    assert is_gone(name)


def test_a_child_of_a_fork_takes_nothing_from_its_parent(name: str, program: Start) -> None:
    script = (
        "import lampyr, os, sys\n"
        "with lampyr.launch_sandbox(name=sys.argv[1]) as box:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        print('child', box.shell('echo hi').stdout.strip(), flush=True)\n"
        "        sys.exit(3)\n"
        "    code = os.WEXITSTATUS(os.waitpid(child, 0)[1])\n"
        "    print('parent', code, box.shell('echo hi').stdout.strip(), flush=True)\n"
    )
    said, _ = program(script, name).communicate(timeout=LIMIT)
    assert said == "child hi\nparent 3 hi\n"
    assert is_gone(name)


def test_a_server_that_died_is_started_anew(tmp_path: Path) -> None:
    client = lampyr.Client(home=tmp_path)
    assert client.list_volumes() == []
    first = client._server._started
    assert first is not None
    first.process.kill()
    first.process.wait(LIMIT)
    assert client.list_volumes() == []
    assert client._server.running() not in (None, first.address)
    client._server.end()


def test_there_is_one_server_for_all_clients_of_a_home(tmp_path: Path) -> None:
    first, second = lampyr.Client(home=tmp_path), lampyr.Client(home=f"{tmp_path}/")
    first.ensure_runtime()
    assert second._server.running() == first._server.running() is not None
    first._server.end()
    assert second._server.running() is None


def test_a_program_that_is_missing_or_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(lampyr.ConnectionFailed, match=r"there is no program .* LAMPYR_BIN"):
        lampyr.Client(binary=tmp_path / "lampyr").ensure_runtime()
    home = tmp_path / "file"
    home.write_text("no directory")
    with pytest.raises(lampyr.LampyrError, match=str(home)):
        lampyr.Client(home=home).ensure_runtime()
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    with pytest.raises(lampyr.ConnectionFailed, match="broken cannot be started"):
        lampyr.Client(binary=broken).ensure_runtime()
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho '{}'\n")
    silent.chmod(0o755)
    with pytest.raises(lampyr.ConnectionFailed, match="did not say where it listens"):
        lampyr.Client(binary=silent).ensure_runtime()
