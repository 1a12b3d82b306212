"""Sandboxes: commands and files, byte for byte, and what can be said of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import LIMIT, fresh, is_gone

import lampyr

EVERY_BYTE = bytes(range(256)) * 1000


def test_a_program_gets_its_arguments_as_they_are(box: lampyr.Sandbox) -> None:
    words = ["", "a b", "$HOME", "'", "\n", "ü"]
    result = box.exec("printf", ["%s|", *words])
    assert result.stdout == "|".join(words) + "|"
    assert (result.code, result.stderr) == (0, "")
    assert result.duration_ms >= 0 and result.meta["cpu_ms"] >= 0


def test_a_script_has_an_exit_code_and_two_streams(box: lampyr.Sandbox) -> None:
    result = box.shell("echo out; echo err >&2; exit 3")
    assert (result.code, result.stdout, result.stderr) == (3, "out\n", "err\n")
    with pytest.raises(lampyr.CommandFailed, match="exit code 3: err") as failure:
        result.check()
    assert failure.value.result is result
    assert box.shell("true").check().code == 0


def test_output_and_input_are_bytes(box: lampyr.Sandbox) -> None:
    assert box.exec("cat", stdin=EVERY_BYTE).stdout_bytes == EVERY_BYTE
    assert box.shell("cat >&2", stdin=EVERY_BYTE).stderr_bytes == EVERY_BYTE
    assert box.exec("cat", stdin="ü").stdout == "ü"
    assert box.exec("cat").stdout_bytes == b""


def test_long_output_arrives_whole(box: lampyr.Sandbox) -> None:
    script = "head -c 2000000 /dev/urandom | tee /tmp/long"
    said = box.shell(script).stdout_bytes
    pieces = b"".join(piece.data for piece in box.shell_stream("cat /tmp/long"))
    assert len(said) == 2_000_000 and pieces == said == box.read_file("/tmp/long")


def test_a_command_has_its_own_surroundings(box: lampyr.Sandbox) -> None:
    result = box.shell('echo "$WORD $PWD $(id -u)"', env={"WORD": "hi"}, cwd="/usr", user="1000")
    assert result.stdout == "hi /usr 1000\n"


def test_what_takes_too_long_is_ended(box: lampyr.Sandbox) -> None:
    with pytest.raises(lampyr.CommandTimeout, match="longer than 300ms") as failure:
        box.shell("echo partial; printf '\\377' >&2; exec sleep 600", timeout=0.3)
    error = failure.value
    assert (error.kind, error.partial_stdout, error.partial_stderr) == (
        "timeout",
        b"partial\n",
        b"\xff",
    )
    assert error.duration_ms >= 300


def test_a_stream_gives_output_as_it_comes(box: lampyr.Sandbox) -> None:
    script = "printf '\\377'; echo one >&2; read line < /tmp/go; echo $line; exit 4"
    box.shell("mkfifo /tmp/go").check()
    stream = box.shell_stream(script)
    heard = {piece.stream: piece.data for piece in (next(stream), next(stream))}
    assert heard == {"stdout": b"\xff", "stderr": b"one\n"}
    assert stream.code is None
    box.shell("echo two > /tmp/go").check()
    assert [(piece.stream, piece.text) for piece in stream] == [("stdout", "two\n")]
    assert stream.code == 4


def test_a_stream_that_is_closed_ends_its_command(box: lampyr.Sandbox) -> None:
    with box.shell_stream("echo $$; exec sleep 600") as stream:
        pid = next(stream).text.strip()
        assert box.shell(f"kill -0 {pid}").code == 0
    box.shell(f"while kill -0 {pid}; do sleep 0.02; done", timeout=10)


def test_a_stream_tells_how_its_command_failed(box: lampyr.Sandbox) -> None:
    stream = box.exec_stream("sleep", ["600"], timeout=0.2)
    with pytest.raises(lampyr.CommandTimeout):
        next(stream)
    with pytest.raises(lampyr.LampyrError) as failure:
        box.exec_stream("pwd", cwd="relative")
    assert (failure.value.kind, failure.value.status) == ("usage", 400)


def test_a_command_under_a_sandbox_that_is_stopped_is_told(name: str) -> None:
    box = lampyr.launch_sandbox(name=name)
    with box.shell_stream("echo on; exec sleep 600") as stream:
        assert next(stream).text == "on\n"
        box.stop(force=True)
        with pytest.raises(lampyr.SessionDisconnected):
            next(stream)
    box.stop()
    assert is_gone(name)


def test_files_are_bytes(box: lampyr.Sandbox) -> None:
    path = "/tmp/files/a b/ü?&#%"
    box.write_file(path, EVERY_BYTE, mode=0o640, parents=True)
    assert box.read_file(path) == EVERY_BYTE
    assert box.exec("stat", ["-c", "%a %s", path]).stdout == f"640 {len(EVERY_BYTE)}\n"
    box.write_file(path, "text")
    assert box.read_file(path) == b"text"
    with pytest.raises(lampyr.UsageError) as failure:
        box.read_file("/tmp/none")
    assert failure.value.status == 404


def test_a_file_of_megabytes_goes_in_and_out(box: lampyr.Sandbox) -> None:
    data = os.urandom(12_000_000)
    box.write_file("/tmp/large", data)
    assert box.read_file("/tmp/large") == data
    box.exec("rm", ["/tmp/large"]).check()


def test_trees_are_copied_in_and_out(box: lampyr.Sandbox, tmp_path: Path) -> None:
    source, back = tmp_path / "in: a", tmp_path / "back"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(EVERY_BYTE)
    (source / "run").write_text("#!/bin/sh\necho ran\n")
    (source / "run").chmod(0o755)
    box.copy_in(source, "/tmp/tree")
    assert box.exec("/tmp/tree/run").stdout == "ran\n"
    box.copy_out("/tmp/tree", back)
    assert (back / "deep" / "file").read_bytes() == EVERY_BYTE
    assert (back / "run").stat().st_mode & 0o777 == 0o755
    with pytest.raises(lampyr.UsageError, match="not found"):
        box.copy_in(tmp_path / "none", "/tmp/none")


def test_a_sandbox_is_as_it_was_asked_for(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    volume = fresh()
    sandbox = lampyr.launch_sandbox(
        name=name,
        image="default",
        resources=lampyr.Resources(cpus=2, memory="512M"),
        env={"WORD": "hi"},
        workdir="/usr",
        mounts={
            "/here": tmp_path,
            "/fixed": lampyr.Mount(directory=tmp_path, readonly=True),
            "/kept": lampyr.Mount(volume=volume),
        },
    )
    with sandbox:
        assert (sandbox.info.memory, sandbox.info.cpus) == (512 << 20, 2)
        assert (sandbox.name, sandbox.info.status, sandbox.info.attached) == (name, "running", True)
        assert sandbox.inspect().id == sandbox.id
        assert sandbox.shell('echo "$WORD $PWD"').stdout == "hi /usr\n"
        assert sandbox.shell("cat /here/file; echo there > /here/new").stdout == "here"
        assert sandbox.shell("touch /fixed/file").code != 0
        assert sandbox.shell("echo kept > /kept/file").code == 0
    assert is_gone(name)
    assert (tmp_path / "new").read_text() == "there\n"
    assert any(each.name == volume for each in lampyr.list_volumes())
    lampyr.remove_volume(volume)


def test_a_port_leads_into_the_sandbox() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = (
        "import socket; s = socket.create_server(('127.0.0.1', 7000));"
        "print('on', flush=True); c, _ = s.accept(); c.sendall(c.recv(9).upper())"
    )
    launched = lampyr.launch_sandbox(ports={port: 7000})
    with launched as sandbox, sandbox.exec_stream("python3", ["-c", server]) as stream:
        assert next(stream).text == "on\n"
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
            client.sendall(b"hello")
            assert client.recv(9) == b"HELLO"


def test_a_name_is_taken_over_unless_that_is_refused(name: str) -> None:
    first = lampyr.launch_sandbox(name=name)
    with pytest.raises(lampyr.UsageError) as failure:
        lampyr.launch_sandbox(name=name, overwrite=False)
    assert failure.value.status == 409
    assert first.exec("true").code == 0
    with lampyr.launch_sandbox(name=name) as second:
        assert is_gone(first.id)
        assert lampyr.connect_to_sandbox(name).id == second.id


def test_a_handle_stops_what_it_launched_and_nothing_else(name: str) -> None:
    with lampyr.launch_sandbox(name=name) as sandbox:
        with lampyr.connect_to_sandbox(name) as again:
            assert again.exec("true").code == 0
        assert sandbox.exec("true").code == 0
    assert is_gone(name)


def test_what_runs_is_removed_with_force_alone(name: str) -> None:
    launched = lampyr.launch_sandbox(name=name)
    with pytest.raises(lampyr.UsageError, match=f"{name}' is running"):
        lampyr.remove_sandbox(name)
    assert launched.id in [each.id for each in lampyr.list_sandboxes()]
    lampyr.remove_sandbox(name, force=True)
    assert is_gone(name)
    lampyr.remove_sandbox(name, force=True)
    lampyr.remove_sandbox(fresh())


def test_what_runs_in_a_sandbox_is_stopped_also_when_that_fails(name: str) -> None:
    ids = []

    def work(sandbox: lampyr.Sandbox) -> str:
        ids.append(sandbox.id)
        return sandbox.shell("echo hi").stdout

    def fail(sandbox: lampyr.Sandbox) -> None:
        work(sandbox)
        raise KeyError(sandbox.id)

    assert lampyr.run_in_sandbox(work) == "hi\n"
    with pytest.raises(KeyError):
        lampyr.run_in_sandbox(fail, name=name)
    assert len(ids) == 2 and all(map(is_gone, ids))


def test_threads_share_a_sandbox(box: lampyr.Sandbox) -> None:
    together = threading.Barrier(8, timeout=LIMIT)

    def ask(number: int) -> bool:
        together.wait()
        answers = [box.shell(f"echo {number} {turn}").stdout for turn in range(4)]
        return answers == [f"{number} {turn}\n" for turn in range(4)]

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))


def test_volumes_are_made_once_and_removed(name: str) -> None:
    assert not lampyr.volume_exists(name)
    made = lampyr.ensure_volume(name, quota_mib=16, labels={"for": "a test"})
    assert (made.name, made.quota_bytes, made.labels) == (name, 16 << 20, {"for": "a test"})
    assert lampyr.ensure_volume(name).quota_bytes == 16 << 20
    assert lampyr.volume_exists(name)
    lampyr.remove_volume(name)
    assert not lampyr.volume_exists(name)
    lampyr.remove_volume(name)


def test_a_terminal_is_given_to_a_shell(box: lampyr.Sandbox) -> None:
    script = "import lampyr, sys; sys.exit(lampyr.connect_to_sandbox(sys.argv[1]).attach_shell())"
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script, box.id],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as shell:
        os.close(theirs)
        os.write(ours, b"tty > /tmp/tty; exit $((2 * 21))\n")
        said = _all(ours)
        assert shell.wait(LIMIT) == 42, said
    os.close(ours)
    assert box.read_file("/tmp/tty").startswith(b"/dev/pts/")


def _all(terminal: int) -> bytes:
    """What is said there until nobody has it any more."""
    said = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            return said
        if not piece:
            return said
        said += piece
