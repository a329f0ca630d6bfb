"""Producers that wait at a barrier, and stages that put values off."""

import drpipe
from runs import needs_program, program

pytestmark = needs_program


def test_a_producer_goes_on_behind_a_barrier_when_all_of_its_values_are_done(tmp_path, monkeypatch):
    monkeypatch.setenv("DRPIPE", str(program()))

    def rounds():
        for made in range(0, 12, 4):
            assert len(list(tmp_path.iterdir())) == made
            yield from range(made, made + 4)
            yield drpipe.BARRIER

    def note(number):
        (tmp_path / str(number)).touch()
        return number

    results = drpipe.run(rounds, note, workers=2).check().results
    assert results == list(range(12))


class Divide:
    """Passes on what was made of the next value, which must come first."""

    def __init__(self, directory, last):
        self.directory, self.last = directory, last

    def run(self, number):
        needed = self.directory / str(number + 1)
        if number < self.last and not needed.exists():
            raise drpipe.Deferred(f"{number + 1} is not there yet")
        (self.directory / str(number)).touch()
        return number


def test_a_value_that_is_deferred_comes_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DRPIPE", str(program()))
    report = drpipe.run(range(10), Divide(tmp_path, 9), workers=2).check()
    assert report.results == list(range(10))


def test_values_that_wait_for_nothing_fail_in_vain(tmp_path, monkeypatch):
    monkeypatch.setenv("DRPIPE", str(program()))
    quarantine = tmp_path / "bad"
    report = drpipe.run(range(2), Divide(tmp_path, 9), workers=2, quarantine=quarantine)
    assert (report.results, len(report.failures)) == ([], 2)
    failed = report.failures[0]
    assert failed.cause == "in vain"
    assert failed.reasons == ["waited in vain", f"{failed.value + 1} is not there yet"]
    assert isinstance(failed.exception, drpipe.Deferred)
