"""The router's side of the protocol, for tests. It starts the real worker and sends what a
test wants. Written from docs/WIRE.md, not from the package."""

from __future__ import annotations

import array
import fcntl
import json
import mmap
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import zmq

MAIN = Path(__file__).parents[1] / "src" / "worker_main.py"
#: The longest wait, in milliseconds. Only a hang takes longer.
PATIENCE = 20_000
IS_WHOLE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
#: `fcntl` has no name for it.
FUTURE_WRITE = 0x10
SEALS = IS_WHOLE | FUTURE_WRITE


class Segment(NamedTuple):
    """A buffer that is sent or was received as a segment."""

    data: bytes
    fd: int

    @property
    def inode(self) -> int:
        return os.fstat(self.fd).st_ino


class Output(NamedTuple):
    route: int
    origin: str | None
    header: bytes
    buffers: list[Any]
    item: int = 0
    priority: int = 0

    @property
    def value(self) -> Any:
        return msgpack.unpackb(self.header, strict_map_key=False)


class Said(NamedTuple):
    """A message of the worker."""

    kind: str
    fields: dict[str, Any]
    outputs: list[Output]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def values(self) -> list[Any]:
        return [output.value for output in self.outputs]


def segment(data: bytes, seals: int = SEALS) -> Segment:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return Segment(data, fd)


def text(value: str | None) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    data = value.encode()
    return struct.pack("<I", len(data)) + data


class Router:
    """One worker and its router."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory / "private"
        self.directory.mkdir()
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.rcvtimeo = PATIENCE
        self.socket.bind(f"ipc://{self.directory}/router")
        self.lifeline, theirs = socket.socketpair()
        self.page_fd = os.memfd_create("page")
        os.ftruncate(self.page_fd, 32)
        self.page = memoryview(mmap.mmap(self.page_fd, 32)).cast("Q")
        self.process = self._start(theirs, options.pop("environment", {}))
        theirs.close()
        self._send_post(post(self.directory, **options))

    def _start(self, theirs: socket.socket, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(MAIN), "STEP", "0"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "DRPIPE_WORKER": str(os.getpid()), **environment},
        )

    def _send_post(self, fields: dict[str, Any]) -> None:
        fd = os.memfd_create("post")
        os.write(fd, json.dumps(fields).encode())
        for file in (fd, self.page_fd):
            self.send_fd(file, b"\0")
        os.close(fd)

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.context.term()
        self.lifeline.close()
        self.process.kill()
        self.process.communicate()

    def send_fd(self, fd: int, byte: bytes = b"\1") -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.lifeline.sendmsg([byte], rights)

    def receive_segment(self, length: int) -> Segment:
        _, ancillary, _, _ = self.lifeline.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
        fd = array.array("i", ancillary[0][2])[0]
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        assert seals & IS_WHOLE == IS_WHOLE and seals & (fcntl.F_SEAL_WRITE | FUTURE_WRITE)
        assert os.fstat(fd).st_size == length
        return Segment(os.pread(fd, length, 0), fd)

    # Messages of the router.

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart([b"W" + struct.pack("<II", 3, 7), *frames])

    def grant(self, count: int) -> Said:
        """Grants items, and returns the reports on them as one."""
        self.send(b"\x10" + struct.pack("<I", count))
        return self.produced()

    def produced(self) -> Said:
        said = self.receive("PRODUCED")
        while said.result == "at work":
            more = self.receive("PRODUCED")
            calls, busy = said.calls + more.calls, said.busy + more.busy
            fields = {**more.fields, "calls": calls, "busy": busy}
            said = Said("PRODUCED", fields, said.outputs + more.outputs)
        return said

    def work(self, *batches: tuple[bytes, list[bytes]]) -> None:
        head = b"\x11" + struct.pack("<I", len(batches)) + b"".join(p[0] for p in batches)
        self.send(head, *(frame for batch in batches for frame in batch[1]))

    def one(
        self,
        number: int,
        value: Any,
        buffers: list[Any] = (),
        origin: str | None = None,
        item: int = 0,
        *,
        priority: str | None = None,
    ) -> tuple[bytes, list[bytes]]:
        """Returns a batch with one message. `value` may be the header itself."""
        header = value if isinstance(value, bytes) else msgpack.packb(value)
        frames = []
        head = struct.pack("<BBQIQ", 0, priority == "high", number, 0, item) + text(origin)
        if len(header) > 4096:
            head += struct.pack("<I", 1 << 31)
            frames.append(header)
        else:
            head += struct.pack("<I", len(header)) + header
        head += struct.pack("<I", len(buffers))
        for buffer in buffers:
            if isinstance(buffer, Segment):
                self.send_fd(buffer.fd)
                head += struct.pack("<BQ", 1, len(buffer.data))
            else:
                head += b"\0"
                frames.append(buffer)
        return head, frames

    def many(
        self, first: int, values: list[Any], priority: str | None = None
    ) -> tuple[bytes, list[bytes]]:
        headers = [v if isinstance(v, bytes) else msgpack.packb(v) for v in values]
        pack = b"".join(struct.pack("<H", len(header)) + header for header in headers)
        head = struct.pack("<BBQI", 1, priority == "high", first, len(headers))
        if len(pack) > 4096:
            return head + struct.pack("<I", 1 << 31), [pack]
        return head + struct.pack("<I", len(pack)) + pack, []

    def run(self, *values: Any) -> Said:
        """Sends one pack of values, and returns the reports on them as one."""
        self.work(self.many(1, list(values)))
        return self.done(len(values))

    def done(self, count: int) -> Said:
        """Returns the reports on this number of messages as one."""
        completions: list[Any] = []
        outputs: list[Output] = []
        while sum(c["count"] for c in completions) < count:
            said = self.receive("DONE")
            completions += said.completions
            outputs += said.outputs
        return Said("DONE", {"completions": completions}, outputs)

    def finish(self) -> Said:
        self.send(b"\x12")
        return self.receive("FINISHED")

    def stop(self) -> tuple[int, str, str]:
        """Stops the worker. Returns the exit code and what was printed."""
        self.send(b"\x13")
        return self.ended()

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE / 1000)
        return self.process.returncode, out.decode(), err.decode()

    # Messages of the worker.

    def ready(self) -> Router:
        self.receive("READY")
        return self

    def receive(self, expected: str) -> Said:
        said = self.receive_any(expected)
        assert said.kind == expected, said
        return said

    def receive_any(self, expected: str = "anything") -> Said:
        try:
            identity, head, *frames = self.socket.recv_multipart()
        except zmq.Again:
            self.process.kill()
            raise AssertionError(f"expected {expected}, got nothing: {self.ended()}") from None
        assert identity == b"W" + struct.pack("<II", 3, 7)
        return Parser(head, frames, self).message()


def post(directory: Path, module: str, cls: str, **more: Any) -> dict[str, Any]:
    next_steps = more.get("next_steps", ["NEXT", "OTHER"])
    return {
        "place": {"worker": 3, "incarnation": 7},
        "context": {
            "run": "r",
            "step": "STEP",
            "worker": 0,
            "next_steps": next_steps,
            "private": None,
        },
        "class": cls,
        "params": more.get("params", {}),
        "directory": str(directory),
        "memory_limit": more.get("memory_limit"),
        "python": {
            "module": module,
            "role": more.get("role", "stager"),
            "paths": [str(Path(__file__).parent / "steps"), *more.get("paths", [])],
            "to_python": more.get("to_python", [True] * len(next_steps)),
        },
    }


class Parser:
    """A parser of a worker's message."""

    def __init__(self, head: bytes, frames: list[bytes], router: Router) -> None:
        self.head, self.frames, self.router = head, frames, router

    def message(self) -> Said:
        kind = self.number("B")
        parse = {
            1: lambda: ("READY", {"version": self.number("H")}),
            2: lambda: ("INIT_FAILED", {"failure": self.failure()}),
            3: lambda: ("DONE", {"completions": self.list(self.completion)}),
            4: lambda: ("PRODUCED", self.production()),
            5: lambda: ("FINISHED", {"failure": self.failure() if self.number("B") else None}),
            6: lambda: ("NOTES", {"notes": self.list(self.note)}),
            8: lambda: ("RELEASED", {"bytes": self.number("Q")}),
        }[kind]
        name, fields = parse()
        has_outputs = kind in (3, 4, 5)
        outputs = [o for part in self.list(self.output) for o in part] if has_outputs else []
        assert not self.head and not self.frames
        return Said(name, fields, outputs)

    def take(self, length: int) -> bytes:
        assert len(self.head) >= length
        taken, self.head = self.head[:length], self.head[length:]
        return taken

    def number(self, kind: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def list(self, item: Any) -> list[Any]:
        return [item() for _ in range(self.number("I"))]

    def text(self) -> str:
        return self.take(self.number("I")).decode()

    def failure(self) -> tuple[bool, list[str]]:
        return bool(self.number("B")), self.list(self.text)

    def bytes(self) -> bytes:
        length = self.number("I")
        return self.frames.pop(0) if length == 1 << 31 else self.take(length)

    def note(self) -> Any:
        kind = self.number("B")
        if kind == 0:
            return ("expected", self.number("Q"))
        if kind == 3:
            return ("actions", self.list(self.action))
        path, length = self.text(), self.number("I")
        origin = None if length == 0xFFFFFFFF else self.take(length).decode()
        return ("product", path, origin)

    def action(self) -> Any:
        name, (*counts, busy) = self.text(), struct.unpack("<IIIIQ", self.take(24))
        assert busy == 0
        return [name, *counts]

    def completion(self) -> dict[str, Any]:
        first, count, silent, busy, outcome = struct.unpack("<QIIQB", self.take(25))
        wait = self.number("Q") if outcome == 3 else None
        failure = self.failure() if outcome else None
        said = {"first": first, "count": count, "silent": silent, "busy": busy, "failure": failure}
        names = ["DONE", "FAILED", "PANICKED", "DEFERRED"]
        return {**said, "outcome": names[outcome], "wait": wait}

    def production(self) -> dict[str, Any]:
        calls, busy, result = struct.unpack("<IQB", self.take(13))
        failure = self.failure() if result == 3 else None
        names = ["more", "idle", "no more", "failed", "at work", "barrier"]
        wait = self.number("Q") if result == 1 else None
        said = {"calls": calls, "busy": busy, "result": names[result], "failure": failure}
        return {**said, "wait": wait}

    def output(self) -> list[Output]:
        kind, priority, route = struct.unpack("<BBI", self.take(6))
        if kind == 1:
            count, pack = self.number("I"), self.bytes()
            outputs = []
            while pack:
                length = struct.unpack("<H", pack[:2])[0]
                outputs.append(Output(route, None, pack[2 : 2 + length], [], 0, priority))
                pack = pack[2 + length :]
            assert len(outputs) == count
            return outputs
        item = self.number("Q")
        length = self.number("I")
        origin = None if length == 0xFFFFFFFF else self.take(length).decode()
        header, buffers = self.bytes(), self.list(self.buffer)
        return [Output(route, origin, header, buffers, item, priority)]

    def buffer(self) -> Any:
        if self.number("B") == 0:
            return self.frames.pop(0)
        return self.router.receive_segment(self.number("Q"))
