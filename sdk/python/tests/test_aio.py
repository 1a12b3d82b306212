"""The API for asyncio: the same, and what is cancelled is broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from conftest import LIMIT, fate, is_gone

import lampyr
from lampyr import aio
from lampyr._calls import Call

T = TypeVar("T")
EVERY_BYTE = bytes(range(256)) * 1000


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, LIMIT))


def test_a_sandbox_from_launch_to_stop(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(EVERY_BYTE)

    async def work() -> None:
        assert await aio.ensure_runtime()
        async with aio.launch_sandbox(name=name) as box:
            assert (await box.exec("cat", stdin=EVERY_BYTE)).stdout_bytes == EVERY_BYTE
            assert (await box.shell("exit 3")).code == 3
            await box.write_file("/tmp/written", EVERY_BYTE)
            assert await box.read_file("/tmp/written") == EVERY_BYTE
            await box.copy_in(tmp_path, "/tmp/in")
            await box.copy_out("/tmp/in/file", tmp_path / "out")
            with pytest.raises(lampyr.UsageError):
                await box.copy_in(tmp_path / "none", "/tmp/in")
            assert (await box.inspect()).id == box.id
            again = await aio.connect_to_sandbox(name)
            assert again.id == box.id

    run(work())
    assert (tmp_path / "out").read_bytes() == EVERY_BYTE
    assert is_gone(name)


def test_commands_run_side_by_side(box: lampyr.Sandbox) -> None:
    async def work() -> None:
        same = await aio.connect_to_sandbox(box.id)
        results = await asyncio.gather(*(same.exec("echo", [str(n)]) for n in range(16)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(16)]

    run(work())


def test_a_stream_is_entered_iterated_or_awaited(box: lampyr.Sandbox) -> None:
    async def work() -> None:
        same = await aio.connect_to_sandbox(box.id)
        async with same.shell_stream("echo one; exit 2") as stream:
            assert [piece.text async for piece in stream] == ["one\n"]
            assert stream.code == 2
        assert [piece.data async for piece in same.exec_stream("printf", ["\\377"])] == [b"\xff"]
        stream = await same.shell_stream("exec sleep 600", timeout=0.2)
        with pytest.raises(lampyr.CommandTimeout):
            await stream.__anext__()
        with pytest.raises(lampyr.UsageError):
            await same.exec_stream("pwd", cwd="relative")

    run(work())


def test_what_takes_too_long_is_ended(box: lampyr.Sandbox) -> None:
    async def work() -> None:
        same = await aio.connect_to_sandbox(box.id)
        with pytest.raises(lampyr.CommandTimeout) as failure:
            await same.shell("echo partial; exec sleep 600", timeout=0.3)
        assert failure.value.partial_stdout == b"partial\n"

    run(work())


def test_a_cancelled_command_ends(box: lampyr.Sandbox) -> None:
    async def work() -> None:
        same = await aio.connect_to_sandbox(box.id)
        running = asyncio.create_task(same.shell("echo $$ > /tmp/pid; exec sleep 600"))
        known = "until [ -s /tmp/pid ]; do sleep 0.02; done; cat /tmp/pid"
        pid = (await same.shell(known, timeout=10)).stdout.strip()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await same.shell(f"while kill -0 {pid}; do sleep 0.02; done", timeout=10)
        async with same.shell_stream("echo $$; exec sleep 600") as stream:
            pid = (await stream.__anext__()).text.strip()
        await same.shell(f"while kill -0 {pid}; do sleep 0.02; done", timeout=10)

    run(work())


def test_a_cancelled_launch_leaves_nothing(name: str) -> None:
    async def work() -> None:
        launching = asyncio.ensure_future(_launch(name))
        await asyncio.sleep(0)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=LIMIT)

    asyncio.run(work())
    assert "has ended" in fate(name), "it was launched, and is gone"


class Slow(aio.Client):
    """A client whose server takes its time to fork."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.forked = asyncio.Event()

    async def _perform(self, call: Call[Any]) -> Any:
        self.asked.append(f"{call.request.method} {call.request.target}")
        if call.request.method == "DELETE":
            return None
        await self.forked.wait()
        return [info("one"), info("two")]


def info(id: str) -> lampyr.SandboxInfo:
    return lampyr.SandboxInfo(id, "default", 1, 1 << 28, "", "running", True, 1)


def test_forks_of_a_cancelled_call_are_stopped() -> None:
    async def work() -> None:
        client = Slow()
        forking = asyncio.ensure_future(aio.Sandbox(client, info("box"), ours=True).fork(2))
        while not client.asked:
            await asyncio.sleep(0)
        forking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forking
        client.forked.set()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left, timeout=LIMIT)
        stopped = [f"DELETE /v1/sandboxes/{each}?force=true" for each in ("one", "two")]
        assert client.asked == ["POST /v1/sandboxes/box/fork", *stopped]

    asyncio.run(work())


async def _launch(name: str) -> aio.Sandbox:
    return await aio.launch_sandbox(name=name)


def test_the_rest_of_the_calls(name: str) -> None:
    async def work() -> None:
        async def hear(box: aio.Sandbox) -> str:
            await box.detach()
            assert box.id in [each.id for each in await aio.list_sandboxes()]
            return (await box.shell("echo hi")).stdout

        assert await aio.run_in_sandbox(hear, name=name) == "hi\n"
        await aio.remove_sandbox(name, force=True)
        assert not await aio.volume_exists(name)
        assert (await aio.ensure_volume(name, quota_mib=16)).quota_bytes == 16 << 20
        assert name in [volume.name for volume in await aio.list_volumes()]
        await aio.remove_volume(name)

    run(work())
    assert is_gone(name)
