"""Journals of runs without a configuration."""

import os

import laboratory
import pytest

import drpipe
from drpipe import step
from runs import needs_program

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]


@pytest.fixture(autouse=True, params=["forked", "fresh"])
def workers(request, monkeypatch):
    """Sets whether workers are forks of this process."""
    monkeypatch.setattr("drpipe.driving.forking.is_safe", lambda: request.param == "forked")


@pytest.mark.parametrize("mode", ["threads", "inline"])
def test_a_journal_lets_a_later_run_skip_what_is_done(tmp_path, mode):
    for name in ("a.fits", "b.fits", "c.fits"):
        (tmp_path / name).touch()

    def ran(stage, *files, **options):
        report = drpipe.run(list(files), stage, journal="night.journal", mode=mode, **options)
        return [os.path.basename(value) for value in report.results]

    check = step(laboratory.passes_what_is_there, name="CHECK")
    assert ran(check, "a.fits", "b.fits") == ["a.fits", "b.fits"]
    assert ran(check, "a.fits", "b.fits", "c.fits", resume=True) == ["c.fits"]
    assert ran(check, "a.fits", "b.fits", "c.fits") == ["a.fits", "b.fits", "c.fits"]
    other = step(laboratory.same, name="CHECK")
    assert ran(other, "a.fits", resume=True) == ["a.fits"], "another stage"
    with pytest.raises(ValueError, match="needs a journal"):
        drpipe.run([1], laboratory.same, resume=True)


def test_values_that_failed_are_tried_again_by_the_next_run():
    def ran(**options):
        return drpipe.run(range(5), laboratory.fails_at_3, journal="n.journal", **options).results

    assert ran() == [0, 1, 2, 4]
    assert ran(resume=True) == []
    report = drpipe.run(range(5), laboratory.fails_at_3, journal="n.journal", resume=True)
    assert [failed.value for failed in report.failures] == [3]
