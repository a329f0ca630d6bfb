from __future__ import annotations

import drpipe
from drpipe.worker.statefulness import gathers


class Sum:
    def init(self) -> None:
        self.sum = 0

    def run(self, value: int) -> None:
        self.sum += value

    def finish(self) -> None:
        self.send_msg(self.sum)  # type: ignore[attr-defined]


class Returns(Sum):
    def finish(self) -> int:  # type: ignore[override]
        return self.sum


class Yields(Sum):
    def finish(self):  # type: ignore[no-untyped-def,override]
        yield self.sum


class Counts(Sum):
    def finish(self) -> None:
        print(self.sum)


class Trivial(Sum):
    def finish(self) -> None:
        pass


class Declared(Counts, drpipe.Stage):
    gathers = True


class Harmless(Sum):
    gathers = False


class Writes(drpipe.Consumer):
    file = "out.txt"

    def run(self, value: int) -> None:
        with open(self.file, "a") as out:
            out.write(f"{value}\n")

    def finish(self) -> None:
        self.log.info("written to %s", self.file)


def test_what_finish_emits_of_what_run_has_kept() -> None:
    for cls in (Sum, Returns, Yields, Declared):
        assert gathers(cls, "stage", []), cls
    for cls in (Counts, Trivial, Harmless, drpipe.Stage):
        assert not gathers(cls, "stage", []), cls


def test_at_the_end_whatever_run_has_kept() -> None:
    assert gathers(Counts, "consumer", [])
    assert not gathers(Trivial, "consumer", [])
    assert not gathers(Writes, "consumer", ["file"])
    assert gathers(Writes, "consumer", [])
