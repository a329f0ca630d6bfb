"""Steps count the actions that their work consists of."""

import pytest

import drpipe
import runs

pytestmark = [runs.needs_program, pytest.mark.usefixtures("the_program")]


class Reduce(drpipe.Stage):
    """Fails for 7, after what it has counted."""

    def run(self, number):
        drpipe.count_action("bias", busy_s=0.002)
        drpipe.count_action("dark", "done" if number % 2 == 0 else "skipped")
        if number == 7:
            drpipe.count_action("flat", "failed")
            raise drpipe.Permanent("no flat")
        return number


@pytest.mark.parametrize("mode", ["parallel", "inline"])
def test_every_mode_counts_executions_those_of_failed_calls_too(mode, tmp_path):
    options = {"mode": "inline"} if mode == "inline" else {}
    report = drpipe.run(range(100), Reduce, quarantine=str(tmp_path), **options)
    actions = report.step("Reduce").actions
    assert [(one.name, one.done, one.skipped, one.failed, one.deferred) for one in actions] == [
        ("bias", 100, 0, 0, 0),
        ("dark", 50, 50, 0, 0),
        ("flat", 0, 0, 1, 0),
    ]
    assert actions[0].busy == pytest.approx(0.2)
    assert report.step("Reduce").failed == 1


def test_an_outcome_that_is_not_known_is_named_and_a_time_is_never_negative():
    with pytest.raises(ValueError, match="found the outcome 'ok'; expected one of done"):
        drpipe.count_action("bias", "ok")
    with pytest.raises(ValueError, match="expected seconds, 0 or more"):
        drpipe.count_action("bias", busy_s=-1.0)
    # Outside a pipeline, nothing is counted.
    drpipe.count_action("bias")
