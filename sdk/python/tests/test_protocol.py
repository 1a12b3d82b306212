"""What comes from the server, however it is cut, and what goes to it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

import lampyr
from lampyr import _calls as calls
from lampyr import presets
from lampyr._events import CommandEvents, Events
from lampyr._http import MAX_HEAD, Answer, Reply
from lampyr.config import document

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"
)
PLAIN = b"HTTP/1.1 404 Not Found\r\ncontent-length: 11\r\n\r\nhello world"


@pytest.mark.parametrize("answer, status", [(CHUNKED, 200), (PLAIN, 404)])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_an_answer_may_be_cut_anywhere(answer: bytes, status: int, size: int) -> None:
    read, body = Answer(), b""
    for at in range(0, len(answer), size):
        assert not read.done or at >= len(answer) - 2
        read.feed(answer[at : at + size])
        body += read.take()
    assert (read.status, body, read.done) == (status, b"hello world", True)


@pytest.mark.parametrize("cut", range(1, len(PLAIN)))
def test_an_answer_that_breaks_off_is_no_answer(cut: int) -> None:
    read = Answer()
    read.feed(PLAIN[:cut])
    assert not read.done
    with pytest.raises(lampyr.ConnectionFailed, match="broke off"):
        read.feed(b"")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"x" * (MAX_HEAD + 1),
    ],
)
def test_what_is_no_http_is_refused(answer: bytes) -> None:
    with pytest.raises(lampyr.ConnectionFailed, match="does not speak HTTP"):
        Answer().feed(answer)


def test_events_may_be_cut_anywhere() -> None:
    said = (
        b': ping\n\nevent: output\ndata: {"data":"\xc3\xbc"}\n\n'
        b'event: end\ndata: {"exit_code":0}\n\n'
    )
    expected = [("output", {"data": "ü"}), ("end", {"exit_code": 0})]
    for size in range(1, len(said)):
        events = Events()
        heard: list[Any] = []
        for at in range(0, len(said), size):
            heard += events.feed(said[at : at + size])
        assert heard == expected


def test_a_command_whose_stream_breaks_off_has_no_end() -> None:
    events = CommandEvents()
    events.feed(b'event: output\ndata: {"stream":"stdout","data":"a"}\n\n')
    assert [piece.text for piece in events.pieces] == ["a"]
    with pytest.raises(lampyr.SessionDisconnected):
        events.feed(b"")


@pytest.mark.parametrize("status, there", [(200, True), (404, False), (422, True)])
def test_a_snapshot_that_is_damaged_is_there(status: int, there: bool) -> None:
    told = b'{"error":"connection_failed","message":"the snapshot is damaged"}'
    assert calls.snapshot_exists("a").read(Reply(status, told)) is there
    with pytest.raises(lampyr.ConnectionFailed, match="damaged"):
        calls.snapshot_exists("a").read(Reply(503, told))


def body(call: calls.Call[Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(call.request.body)
    return read


def test_a_launch_says_what_was_said_and_nothing_else() -> None:
    assert body(calls.launch({})) == {}
    asked = body(calls.launch({"net": ["pypi.org:443"], "ttl": 0.5, "ports": {80: 81}}))
    assert asked == {"policy": {"rules": ["pypi.org:443"]}, "ttl": "500ms", "ports": {"80": 81}}
    assert body(calls.launch({"net": "none"})) == {"net": "none"}
    with pytest.raises(TypeError, match="unexpected keyword argument 'imag'"):
        lampyr.launch_sandbox(imag="default")  # type: ignore[call-arg]


def test_names_cannot_lead_elsewhere() -> None:
    assert calls.inspect("../volumes?x=#").request.target == "/v1/sandboxes/..%2Fvolumes%3Fx%3D%23"
    target = calls.read_file("a", "/a b&c=ü").request.target
    assert target == "/v1/sandboxes/a/files?path=%2Fa%20b%26c%3D%C3%BC"


def test_a_config_is_what_its_document_says() -> None:
    written = {
        "name": "tools",
        "image": "default",
        "resources": {"cpus": 1, "memory": "512M"},
        "env": {"A": "b"},
        "setup": [
            "true",
            {"kind": "shell", "script": "make", "description": "Build"},
            {"kind": "exec", "cmd": "echo", "args": ["a b"]},
        ],
        "net": ["pypi.org:443"],
    }
    config = lampyr.define_snapshot(written)
    assert config.setup[1:] == [lampyr.shell("make", "Build"), lampyr.exec_("echo", ["a b"])]
    assert lampyr.define_snapshot(config) is config
    assert document(config) == written


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"imag": "x"}, "unknown key 'imag'"),
        ({"resources": {"memroy": "1G"}}, "resources: unknown key 'memroy'"),
        ({"resources": {"memory": 512}}, "memory is a string"),
        ({"setup": [{"kind": "python"}]}, "not 'python'"),
        ({"setup": [{"kind": "exec"}]}, "setup: .*cmd"),
    ],
)
def test_a_config_that_is_wrong_says_where(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(lampyr.UsageError, match=told):
        lampyr.define_snapshot({"name": "a", "image": "b", **wrong})


def test_presets_are_configs_with_a_setup() -> None:
    agents = presets.coding_agents_preset()
    assert (agents.name, agents.image) == ("lightbox", "oven/bun")
    assert agents.resources == lampyr.Resources(cpus=2, memory="1G")
    installed = json.dumps(document(agents)["setup"])
    for agent in ("@github/copilot", "@google/gemini-cli", "@openai/codex", "pi-coding-agent"):
        assert agent in installed
    other = presets.data_work_preset("mine", labels={"a": "b"})
    assert (other.name, other.labels, bool(other.setup)) == ("mine", {"a": "b"}, True)


def test_errors_can_be_sent_to_another_process() -> None:
    error = lampyr.UsageError("no", hint="yes", status=409)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.kind, again.status) == ("no (yes)", "usage", 409)
