"""Snapshots, forks and undo."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from conftest import LIMIT, fresh, is_gone, served

import lampyr
from lampyr import SnapshotConfig, aio, exec_, shell

LUCKLESS = "echo no such luck >&2; exit 3"


@pytest.fixture(autouse=True, scope="module")
def supported() -> None:
    if not served("/v1/snapshots"):
        pytest.skip("this lampyr serves no /v1/snapshots")


@pytest.fixture(scope="module")
def builds() -> None:
    if not served("/v1/snapshots/build"):
        pytest.skip("this lampyr serves no /v1/snapshots/build")


@pytest.fixture(scope="module")
def baked(builds: None) -> Iterator[SnapshotConfig]:
    """A snapshot with a file, a label, and a process that runs."""
    config = SnapshotConfig(
        name=fresh(),
        image="default",
        workdir="/opt",
        env={"WORD": "baked"},
        setup=[
            "echo $WORD $PWD > /opt/word",
            shell("sleep 1000000 > /dev/null 2>&1 & echo $! > /opt/pid", "Start a process"),
            exec_("chmod", ["0400", "/opt/word"], description="Shut it"),
        ],
        labels={"for": "a test"},
    )
    lampyr.build_snapshot(config)
    yield config
    lampyr.remove_snapshot(config.name, force=True)


def test_what_is_launched_from_a_snapshot_runs_already(baked: SnapshotConfig) -> None:
    with lampyr.launch_sandbox(snapshot=baked.name) as box:
        assert box.read_file("/opt/word") == b"baked /opt\n"
        assert box.shell("stat -c %a /opt/word; kill -0 $(cat /opt/pid)").stdout == "400\n"


def test_a_snapshot_is_known(baked: SnapshotConfig) -> None:
    assert lampyr.snapshot_exists(baked.name)
    known = {each.name: each for each in lampyr.list_snapshots()}[baked.name]
    assert (known.image, known.labels) == ("default", {"for": "a test"})
    assert known.total_bytes >= known.own_bytes > 0


def test_a_build_with_nothing_changed_is_not_done_again(baked: SnapshotConfig) -> None:
    again = lampyr.build_snapshot(baked)
    assert again.cached and again.name == baked.name
    with pytest.raises(lampyr.UsageError, match="already"):
        lampyr.build_snapshot(baked, overwrite=False)


@pytest.mark.usefixtures("builds")
def test_a_build_tells_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = SnapshotConfig(name, "default", setup=[shell("echo heard; echo $$", "Say it")])
    lampyr.build_snapshot(config, verbose=True)
    told = capsys.readouterr().err
    assert "step 1 of 1: Say it\n" in told and "heard\n" in told
    assert lampyr.remove_snapshot(name) == [name]
    assert not lampyr.snapshot_exists(name)


def test_a_step_that_fails_leaves_what_was_there(baked: SnapshotConfig) -> None:
    broken = SnapshotConfig(baked.name, "default", setup=["true", LUCKLESS])
    with pytest.raises(lampyr.SetupFailed) as failure:
        lampyr.build_snapshot(broken)
    assert failure.value.step == lampyr.FailedStep(2, 2, LUCKLESS, 3)
    assert failure.value.kind == "connection_failed"
    assert "no such luck" in failure.value.output
    with lampyr.launch_sandbox(snapshot=baked.name) as box:
        assert box.read_file("/opt/word") == b"baked /opt\n"


@pytest.mark.usefixtures("builds")
def test_a_builder_can_be_kept(name: str) -> None:
    broken = SnapshotConfig(name, "default", setup=["echo here > /root/here; false"])
    with pytest.raises(lampyr.SetupFailed):
        lampyr.build_snapshot(broken, debug_builder=True)
    builder = lampyr.connect_to_sandbox(f"{name}-builder")
    assert builder.read_file("/root/here") == b"here\n"
    builder.stop(force=True)
    assert not lampyr.snapshot_exists(name)


def test_a_sandbox_goes_on_after_its_snapshot(box: lampyr.Sandbox, name: str) -> None:
    box.shell("echo one > /dev/shm/kept").check()
    taken = box.snapshot(name, labels={"a": "b"})
    assert (taken.name, taken.labels, taken.parent) == (name, {"a": "b"}, None)
    assert taken.pause_ms is not None and taken.total_bytes >= taken.own_bytes > 0
    with pytest.raises(lampyr.UsageError) as failure:
        box.snapshot(name, overwrite=False)
    assert failure.value.status == 409
    box.shell("echo two > /dev/shm/kept").check()
    with lampyr.launch_sandbox(snapshot=name) as other:
        assert other.read_file("/dev/shm/kept") == b"one\n"
    assert box.read_file("/dev/shm/kept") == b"two\n"
    assert lampyr.remove_snapshot(name) == [name]
    assert lampyr.remove_snapshot(name) == []


def test_what_others_were_built_on_is_removed_with_force_alone(name: str) -> None:
    more = f"{name}-more"
    with lampyr.launch_sandbox() as box:
        first = box.snapshot(name)
    with lampyr.launch_sandbox(snapshot=name) as box:
        assert box.snapshot(more).parent == {"digest": first.digest, "name": name}
    with pytest.raises(lampyr.UsageError) as failure:
        lampyr.remove_snapshot(name)
    assert failure.value.status == 409
    assert lampyr.snapshot_exists(name)
    assert set(lampyr.remove_snapshot(name, force=True)) == {name, more}
    assert not lampyr.snapshot_exists(more)


def test_forks_go_on_by_themselves(box: lampyr.Sandbox) -> None:
    box.shell("echo shared > /dev/shm/file").check()
    forks = box.fork(2)
    assert len({fork.id for fork in forks} | {box.id}) == 3
    said = [fork.shell("cat /dev/shm/file /proc/sys/kernel/random/uuid").stdout for fork in forks]
    assert all(each.startswith("shared\n") for each in said) and said[0] != said[1]
    forks[0].shell("echo mine > /dev/shm/file").check()
    assert forks[1].read_file("/dev/shm/file") == b"shared\n" == box.read_file("/dev/shm/file")
    for fork in forks:
        with fork:
            pass
        assert is_gone(fork.id)


def test_a_sandbox_with_secrets_is_copied_only_where_that_is_said(name: str) -> None:
    secret = lampyr.Secret(host="api.example.com", value="never-inside")
    assert "never-inside" not in repr(secret)
    with lampyr.launch_sandbox(net=["api.example.com:443"], secrets={"TOKEN": secret}) as box:
        held = box.shell("echo ${TOKEN:?}; ls /sys/class/net").check().stdout
        assert "never-inside" not in held and "eth0" in held
        with pytest.raises(lampyr.UsageError, match="secret"):
            box.snapshot(name)
        with pytest.raises(lampyr.UsageError, match="secret"):
            box.fork()
        (fork,) = box.fork(with_secrets=True)
        with fork:
            assert fork.exec("true").code == 0


def test_a_machine_can_be_taken_back() -> None:
    with lampyr.launch_sandbox(checkpoints=4) as box:
        box.shell("echo first > /root/file").check()
        box.shell("echo second > /root/file").check()
        box.exec("rm", ["-r", "/root"]).check()
        entries = box.log()
        assert "rm" in entries[-1].command
        assert box.undo().undone_to == entries[-1].index
        assert box.read_file("/root/file") == b"second\n"
        box.undo(to=entries[-2].index)
        assert box.read_file("/root/file") == b"first\n"


def test_the_same_with_asyncio(name: str) -> None:

    async def work() -> None:
        async with aio.launch_sandbox(checkpoints=2) as box:
            await box.shell("echo a > /root/a")
            (fork,) = await box.fork()
            async with fork:
                assert await fork.read_file("/root/a") == b"a\n"
            await box.shell("rm /root/a")
            assert [entry.command for entry in await box.log()][-1] == "rm /root/a"
            await box.undo()
            assert await box.read_file("/root/a") == b"a\n"
            assert not await aio.snapshot_exists(name)
            assert (await box.snapshot(name)).name == name
        assert name in [each.name for each in await aio.list_snapshots()]
        assert await aio.remove_snapshot(name) == [name]

    asyncio.run(asyncio.wait_for(work(), LIMIT))


@pytest.mark.usefixtures("builds")
def test_a_build_with_asyncio(name: str) -> None:
    async def work() -> None:
        config = SnapshotConfig(name, "default", setup=["echo a > /root/a"])
        assert (await aio.build_snapshot(config)).name == name
        with pytest.raises(lampyr.SetupFailed):
            await aio.build_snapshot(SnapshotConfig(name, "default", setup=["false"]))
        await aio.remove_snapshot(name)

    asyncio.run(asyncio.wait_for(work(), LIMIT))
