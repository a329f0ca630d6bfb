"""Whether a class is stateful, or a singleton."""

from __future__ import annotations

import drpipe
from drpipe.worker.describe import describe
from drpipe.worker.statefulness import is_stateful


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
    stateful = True


class Harmless(Sum):
    stateful = False


class DeclaredAsFormerly(Counts, drpipe.Stage):
    gathers = True


class HarmlessAsFormerly(Declared):
    gathers = False


class Single(drpipe.Stage):
    singleton = True


class SingleAsFormerly(drpipe.Stage):
    single = True


class Writes(drpipe.Consumer):
    file = "out.txt"

    def run(self, value: int) -> None:
        with open(self.file, "a") as out:
            out.write(f"{value}\n")

    def finish(self) -> None:
        self.log.info("written to %s", self.file)


def test_what_finish_emits_of_what_run_has_kept() -> None:
    for cls in (Sum, Returns, Yields, Declared, DeclaredAsFormerly):
        assert is_stateful(cls, "stage", []), cls
    for cls in (Counts, Trivial, Harmless, HarmlessAsFormerly, drpipe.Stage):
        assert not is_stateful(cls, "stage", []), cls


def test_at_the_end_whatever_run_has_kept() -> None:
    assert is_stateful(Counts, "consumer", [])
    assert not is_stateful(Trivial, "consumer", [])
    assert not is_stateful(Writes, "consumer", ["file"])
    assert is_stateful(Writes, "consumer", [])


def test_a_class_may_say_that_it_has_one_worker() -> None:
    for cls in (Single, SingleAsFormerly):
        assert describe(cls)["single"] and describe(cls)["schema"]["properties"] == {}, cls
    assert not describe(Sum)["single"]
