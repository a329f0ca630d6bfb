"""The worker against the transcripts of tests/conformance, which workers in every language keep to.
tests/it/conformance plays the same files with real runs' processes; here they are played in the
harness of this package's tests, on every Python that these run on."""

from __future__ import annotations

import json
import os
import socket
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest

from router import SEALS, Segment, segment

FOLDER = Path(__file__).parents[2] / "tests" / "conformance"
TRANSCRIPTS = [t for path in sorted(FOLDER.glob("*.json")) for t in json.loads(path.read_text())]
NEXT_STEPS = ["NEXT", "OTHER"]
#: Nothing takes this long unless something hangs; in seconds.
LIMIT = 20


def numbered(value: Any, number: int) -> Any:
    """With the message's number in the place of each `#`."""
    if isinstance(value, str):
        return value.replace("#", str(number))
    if isinstance(value, list):
        return [numbered(item, number) for item in value]
    if isinstance(value, dict):
        return {key: numbered(item, number) for key, item in value.items()}
    return value


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


class Gate:
    """Where calls of the worker wait for the test."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(LIMIT)
        self.listener.bind(str(path))
        self.listener.listen(8)
        self.waiting: dict[str, socket.socket] = {}

    def reached(self, name: str) -> None:
        while name not in self.waiting:
            stream, _ = self.listener.accept()
            stream.settimeout(LIMIT)
            line = b""
            while not line.endswith(b"\n"):
                line += stream.recv(1)
            self.waiting[line.decode().strip()] = stream

    def opened(self, name: str) -> None:
        self.waiting.pop(name).close()


class Player:
    """Plays one transcript."""

    def __init__(self, router: Any, gate: Gate) -> None:
        self.router, self.gate = router, gate
        self.in_hand: list[int] = []
        self.granted = 0
        self.sent: list[Segment] = []

    def play(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            if "router" in step:
                self.say(step)
            elif "gate" in step:
                getattr(self.gate, step["is"])(step["gate"])
            elif "page" in step:
                assert self.router.page[0] == step["page"]["message"]
            else:
                name = step["worker"].lower()
                getattr(self, "expect_" + name)(step)

    # What the router says.

    def say(self, step: dict[str, Any]) -> None:
        damage = step.get("damage")
        if step["router"] == "dies":
            self.router.lifeline.close()
            return
        frames = {
            "GRANT": lambda: [b"\x10" + struct.pack("<I", step["count"])],
            "WORK": lambda: self.work(step["messages"], damage),
            "ACKNOWLEDGED": lambda: [acknowledged(step["items"])],
            "FINISH": lambda: [b"\x12"],
            "STOP": lambda: [b"\x13"],
        }[step["router"]]()
        self.granted = step.get("count", self.granted)
        self.router.send(*spoiled(frames, damage))

    def work(self, batches: list[dict[str, Any]], damage: str | None) -> list[bytes]:
        parts = [self.batch(batch, damage) for batch in batches]
        count = len(parts) + (damage == "one batch too few")
        head = b"\x11" + struct.pack("<I", count) + b"".join(part[0] for part in parts)
        return [head, *(frame for part in parts for frame in part[1])]

    def batch(self, batch: dict[str, Any], damage: str | None) -> tuple[bytes, list[bytes]]:
        if "pack" in batch:
            first, last = batch["pack"]
            numbers = range(first, last + 1)
            self.in_hand += numbers
            values = [numbered(batch["does"], n) for n in numbers]
            head, frames = self.router.many(first, values, batch.get("priority"))
            if damage in ("one message too few", "no message"):
                count = len(numbers) + 1 if damage == "one message too few" else 0
                rest = head[14:] if count else struct.pack("<I", 0)
                head = head[:10] + struct.pack("<I", count) + rest
            return head, frames
        self.in_hand.append(batch["number"])
        if "is" in batch:
            return self.router.one(batch["number"], b"\x01\x02")
        buffers: list[Any] = []
        value = self.with_arrays(numbered(batch["does"], batch["number"]), buffers, damage)
        origin, item = batch.get("origin"), batch.get("item", 0)
        priority = batch.get("priority")
        return self.router.one(batch["number"], value, buffers, origin, item, priority=priority)

    def with_arrays(self, value: Any, buffers: list[Any], damage: str | None) -> Any:
        """`{"array": size}` stands for an array."""
        if isinstance(value, list):
            return [self.with_arrays(item, buffers, damage) for item in value]
        if not isinstance(value, dict):
            return value
        if "array" not in value:
            return {key: self.with_arrays(item, buffers, damage) for key, item in value.items()}
        size = value["array"]
        fields = msgpack.packb(["|u1", [size], len(buffers)])
        buffers.append(self.buffer(pattern(size), damage))
        return msgpack.ExtType(1, fields)

    def buffer(self, data: bytes, damage: str | None) -> Any:
        if len(data) < 256 << 10:
            return data
        longer = data + b"\0" if damage == "segment too long" else data
        made = segment(longer, 0 if damage == "segment not sealed" else SEALS)
        self.sent.append(made)
        if damage == "segment not sent":
            self.router.send_fd = lambda *_: None
        return Segment(data, made.fd)

    # What the worker says.

    def expect_ready(self, step: dict[str, Any]) -> None:
        assert self.router.receive("READY").version == step["version"]
        assert self.router.page[2] > 0

    def expect_init_failed(self, step: dict[str, Any]) -> None:
        check_failure(step["failure"], self.router.receive("INIT_FAILED").failure)

    def expect_notes(self, step: dict[str, Any]) -> None:
        notes: list[Any] = []
        while len(notes) < len(step["notes"]):
            notes += self.router.receive("NOTES").notes
        assert [[name.upper(), *rest] for name, *rest in notes] == step["notes"]

    def expect_done(self, step: dict[str, Any]) -> None:
        expected = {
            number: completion
            for completion in step["completions"]
            for number in range(completion["messages"][0], completion["messages"][1] + 1)
        }
        found, outputs, silent = [], [], 0
        while len(found) < len(expected):
            said = self.router.receive("DONE")
            outputs += said.outputs
            for completion in said.completions:
                silent += completion["silent"]
                for number in range(completion["first"], completion["first"] + completion["count"]):
                    assert number == self.in_hand.pop(0)
                    found.append(number)
                    assert completion["outcome"] in one_of(expected[number]["outcome"])
                    wait = expected[number].get("wait_ms")
                    assert completion["wait"] == (None if wait is None else wait * 1_000_000)
                    check_failure(expected[number].get("failure"), completion["failure"])
        assert found == list(expected)
        assert silent == step["silent"]
        self.check_outputs(step, outputs)

    def expect_produced(self, step: dict[str, Any]) -> None:
        """A grant may be reported in parts; where its time is over before it is used up, the
        rest is granted again."""
        wanted, result = len(expected_outputs(step["outputs"])), step["result"]
        calls, outputs, last = 0, [], None
        while last is None:
            said = self.router.receive("PRODUCED")
            calls += said.calls
            outputs += said.outputs
            self.granted = max(0, self.granted - len(said.outputs))
            is_complete = len(outputs) >= wanted
            found = said.result.upper().replace(" ", "_")
            if found == "MORE" and not (is_complete and result == "MORE"):
                self.granted = max(1, self.granted)
                self.router.send(b"\x10" + struct.pack("<I", self.granted))
                found = "AT_WORK"
            if found != "AT_WORK" or (is_complete and result == "AT_WORK"):
                last = said
                assert found == result
        if result != "AT_WORK":
            wait = step.get("wait_ms")
            assert last.wait == (None if wait is None else wait * 1_000_000)
            check_failure(step.get("failure"), last.failure)
        assert calls == step["calls"]
        self.check_outputs(step, outputs)

    def expect_released(self, step: dict[str, Any]) -> None:
        assert self.router.receive("RELEASED").bytes == step["bytes"]

    def expect_finished(self, step: dict[str, Any]) -> None:
        said = self.router.receive("FINISHED")
        check_failure(step.get("failure"), said.failure)
        self.check_outputs(step, said.outputs)

    def expect_ends(self, step: dict[str, Any]) -> None:
        code, _, err = self.router.ended()
        assert code == step.get("code", -step.get("signal", 0)), err
        while self.router.socket.poll(0):
            assert self.router.receive_any().kind in step.get("may_say", [])
        if self.router.lifeline.fileno() < 0:
            assert not self.router.directory.exists()

    def check_outputs(self, step: dict[str, Any], outputs: list[Any]) -> None:
        expected = expected_outputs(step["outputs"])
        found = [self.described(output) for output in outputs]
        more = expected_outputs(step.get("may_follow", []))
        assert found == expected + more[: max(0, len(found) - len(expected))]

    def described(self, output: Any) -> Any:
        """An output as the transcripts have it."""
        to = NEXT_STEPS[output.route]
        value = output.value
        if isinstance(value, str):
            if len(value) > 100:
                return {"to": to, "long": len(value)}
            if output.priority:
                return [to, value, output.origin, output.item, "high"]
            if output.item:
                return [to, value, output.origin, output.item]
            return [to, value] if output.origin is None else [to, value, output.origin]
        assert value.code == 1
        kind, shape, place = msgpack.unpackb(value.data)
        data, travels = place, "HEADER"
        if isinstance(place, int):
            data, travels = output.buffers[place], "FRAME"
        if isinstance(data, Segment):
            travels = "SEGMENT"
            if data.inode in [sent.inode for sent in self.sent]:
                travels = "SAME_SEGMENT"
            data = data.data
        assert kind == "|u1" and shape == [len(data)] and data == pattern(len(data))
        described = {"to": to, "array": len(data), "travels": travels}
        return described if output.origin is None else {**described, "origin": output.origin}


def spoiled(frames: list[bytes], damage: str | None) -> list[bytes]:
    head, *rest = frames
    return {
        "empty": lambda: [b""],
        "unknown tag": lambda: [b"\x63" + head[1:]],
        "unknown batch tag": lambda: [head[:5] + b"\x63" + head[6:]],
        "unknown priority": lambda: [head[:6] + b"\x63" + head[7:]],
        "cut short": lambda: [head[:-1], *rest],
        "byte left over": lambda: [head + b"\0", *rest],
        "frame left over": lambda: [head, *rest, b"odd"],
        "frame missing": lambda: [head, *rest[:-1]],
    }.get(damage or "", lambda: frames)()


def acknowledged(items: list[dict[str, Any]]) -> bytes:
    head = b"\x14" + struct.pack("<I", len(items))
    for item in items:
        origin = item.get("origin")
        length = 0xFFFF_FFFF if origin is None else len(origin)
        name = (origin or "").encode()
        end = ["DONE", "FAILED", "DROPPED"].index(item["outcome"])
        head += struct.pack("<QI", item["number"], length) + name + bytes([end])
        if item["outcome"] == "DONE":
            head += struct.pack("<I", len(item["results"]))
            for header in map(msgpack.packb, item["results"]):
                head += struct.pack("<I", len(header)) + header + struct.pack("<I", 0)
        elif item["outcome"] == "FAILED":
            step, says = item["step"].encode(), item["says"].encode()
            head += struct.pack("<I", len(step)) + step + bytes([0, 1])
            head += struct.pack("<II", 1, len(says)) + says + struct.pack("<II", 1, 0xFFFF_FFFF)
    return head


def one_of(outcome: Any) -> list[str]:
    return outcome if isinstance(outcome, list) else [outcome]


def expected_outputs(outputs: list[Any]) -> list[Any]:
    each = [
        [numbered(o["output"], n) for n in range(o["numbers"][0], o["numbers"][1] + 1)]
        if isinstance(o, dict) and "numbers" in o
        else [o]
        for o in outputs
    ]
    return [output for some in each for output in some]


def check_failure(expected: dict[str, Any] | None, found: Any) -> None:
    assert (expected is None) == (found is None), found
    if expected is not None:
        retryable, texts = found
        assert expected.get("retryable") in (None, retryable)
        assert any(expected.get("says", "") in text for text in texts), texts


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript["name"])
def test_transcript(start, tmp_path, transcript):
    gate = Gate(tmp_path / "gate")
    role = transcript.get("role", "stage")
    router = start(
        transcript.get("class", f"Scripted{role.title()}"),
        module="scripted",
        role=role,
        params={**transcript.get("params", {}), "gate": str(tmp_path / "gate")},
        memory_limit=transcript.get("memory_limit"),
    )
    player = Player(router, gate)
    try:
        player.play(transcript["steps"])
    finally:
        gate.listener.close()
        for stream in gate.waiting.values():
            stream.close()
        for sent in player.sent:
            os.close(sent.fd)
