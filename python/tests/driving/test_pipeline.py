"""Runs of pipelines that a file configures."""

import _thread
import contextlib
import json
import logging
import os
import select
import signal
import stat
import threading
from pathlib import Path

import pytest

import drpipe
from drpipe import Pipeline
from runs import ENDLESS, FAIL, ROOT, SLEEP, config, needs_program, program, python, written

pytestmark = [needs_program, pytest.mark.usefixtures("temporary_files_here")]

SECONDS = 60_000


def load(tmp_path, *stagers, **options):
    settings = options.pop("settings", None)
    return Pipeline.load(written(tmp_path, config(*stagers, **options)), settings)


def assert_gone(pid):
    """Checks that a process has ended and was reaped."""
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def pid_of(run):
    return run._process._process.pid


def test_a_run_reports_what_became_of_it(tmp_path):
    report = load(tmp_path, {"name": "SQUARE", "class": "Square", "nb_thread": 2}).run()
    assert (report.verdict, report.exit_code) == ("done", 0)
    assert report.check() is report
    assert [step.name for step in report.steps] == ["NUMBERS", "SQUARE", "END"]
    square = report.step("SQUARE")
    assert (square.class_name, square.workers, square.received, square.done) == (
        "Square",
        2,
        10,
        10,
    )
    assert report.elapsed > 0 and report.results == []
    assert repr(report).startswith("<Report: done in ")
    table = [line.split() for line in str(report).splitlines()]
    assert table[0][:2] == ["step", "received"]
    assert table[2][:6] == ["SQUARE", "10", "10", "0", "0", "10"]
    with pytest.raises(KeyError, match="the steps are NUMBERS, SQUARE, END"):
        report.step("SQUAR")


def test_failed_inputs_are_no_exception_but_check_is(tmp_path):
    report = load(tmp_path, FAIL).run(quarantine=tmp_path / "bad", summary="summary.json")
    assert (report.verdict, report.exit_code, report.quarantined) == ("some_failed", 1, 2)
    assert [failed.step for failed in report.failures] == ["FAIL", "FAIL"]
    first = report.failures[0]
    assert first.cause == "failed" and "as requested" in first.reasons[0]
    assert report.quarantine is not None
    assert (Path(report.quarantine) / str(first.entry)).is_dir()
    with pytest.raises(drpipe.RunFailed, match="first at the step FAIL") as caught:
        report.check()
    assert caught.value.report is report
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["run"] == report.run and summary["elapsed_s"] == report.elapsed


def test_settings_beat_the_file(tmp_path):
    settings = {"NUMBERS.last": 3, "Integers.first": 2, "quarantine": tmp_path / "q"}
    report = load(tmp_path, settings=settings).run(mode="sequential")
    assert report.step("END").received == 2


def test_a_wrong_configuration_is_refused_with_all_that_is_wrong(tmp_path):
    wrong = config(
        {"name": "A", "class": "Sqare"}, {"name": "B", "class": "Square", "nb_thread": -1}
    )
    with pytest.raises(drpipe.ConfigError) as caught:
        Pipeline.load(written(tmp_path, wrong))
    text = str(caught.value)
    assert 'did you mean "Square"?' in text and "found -1" in text
    with pytest.raises(drpipe.ConfigError, match=r"cannot read .*night\.json"):
        Pipeline.load("night.json")


def test_a_program_that_is_not_there_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("DRPIPE", str(tmp_path / "no-drpipe"))
    with pytest.raises(drpipe.ProgramNotFound, match="name the drpipe program, or unset DRPIPE"):
        Pipeline.load("pipeline.json")
    monkeypatch.delenv("DRPIPE")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    built = r"\(cargo install --path \.\), or set DRPIPE to its path"
    with pytest.raises(drpipe.ProgramNotFound, match=built):
        Pipeline.load("pipeline.json")
    (tmp_path / "drpipe").symlink_to(str(program()))
    Pipeline.load(written(tmp_path, config())).run().check()


def test_progress_events_and_the_end(tmp_path):
    with load(tmp_path, SLEEP, last=300).start() as run:
        assert run.report is None
        seen = list(run.progress())
        events = list(run.events())
    assert run.report == run.wait()
    assert len(seen) > 1
    assert [step.name for step in seen[0].steps] == ["NUMBERS", "SLEEP", "END"]
    elapsed = [progress.elapsed for progress in seen]
    assert elapsed == sorted(elapsed)
    assert seen[-1].step("SLEEP").workers == 1
    assert all(step.finished and step.queued == 0 for step in seen[-1].steps)
    assert seen[-1].step("END").done == 300
    kinds = [event["event"] for event in events]
    assert kinds[0] == "opened" and "started" in kinds and kinds[-1] == "ended"
    assert kinds.count("step_finished") == 3 and "progress" not in kinds
    # A second iteration yields the same.
    assert list(run.events()) == events


def test_cancel_finishes_what_was_begun(tmp_path):
    with load(tmp_path, SLEEP, last=ENDLESS).start() as run:
        next(run.progress())
        run.cancel()
    report = run.wait()
    assert (report.verdict, report.exit_code) == ("interrupted", 130)
    assert report.step("SLEEP").received == report.step("SLEEP").done
    with pytest.raises(drpipe.RunFailed):
        report.check()


def test_cancel_now_drops_it(tmp_path):
    slow = {"name": "SLEEP", "class": "Sleep", "params": {"seconds": 100_000}}
    with load(tmp_path, slow, last=ENDLESS).start() as run:
        for event in run.events():
            if event["event"] == "started":
                run.cancel(now=True)
    report = run.wait()
    assert report.verdict == "interrupted" and report.step("SLEEP").dropped > 0
    run.cancel(now=True)


def test_a_run_cancelled_before_it_began_is_interrupted(tmp_path):
    with load(tmp_path, SLEEP, last=ENDLESS).start() as run:
        run.cancel(now=True)
    assert run.wait().verdict == "interrupted"
    assert_gone(pid_of(run))


def test_an_exception_in_the_block_cancels_the_run(tmp_path):
    slow = {"name": "SLEEP", "class": "Sleep", "params": {"seconds": 100_000}}
    with pytest.raises(ZeroDivisionError), load(tmp_path, slow, last=ENDLESS).start() as run:
        next(run.progress())
        1 / 0  # noqa: B018
    assert run.wait().verdict == "interrupted"
    assert_gone(pid_of(run))


def test_an_interrupt_drains_and_a_second_one_drops(tmp_path, caplog):
    slow = {"name": "SLEEP", "class": "Sleep", "params": {"seconds": 100_000}}
    for stager, expected in ((SLEEP, 0), (slow, 1)):
        run = load(tmp_path, stager, last=ENDLESS).start()

        def interrupt(run=run, wanted=1 + expected):
            for event in run.events():
                if event["event"] in ("started", "stopping") and wanted:
                    wanted -= 1
                    _thread.interrupt_main()

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            run.wait()
        thread.join()
        assert run.report is not None and run.report.verdict == "interrupted"
        assert (run.report.step("SLEEP").dropped > 0) == bool(expected)
        assert "interrupt again to drop it" in caplog.text
        assert_gone(pid_of(run))


@pytest.mark.parametrize("results", [False, True])
def test_a_program_that_is_killed_is_an_error_not_a_hang(tmp_path, results):
    run = load(tmp_path, SLEEP, last=ENDLESS).start(results=results)
    next(run.progress())
    os.kill(pid_of(run), signal.SIGKILL)
    with pytest.raises(drpipe.RunError, match="was ended by the signal 9 without a report"):
        run.wait()
    with pytest.raises(drpipe.RunError):
        run.wait()
    assert len(list(run.progress())) <= 1
    assert_gone(pid_of(run))
    assert not list(tmp_path.glob("drpipe-py-*"))


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("exit 0", "exit code 0 without a report"),
        ("echo oh dear >&2; exit 7", "exit code 7 without a report; .*\noh dear"),
        ('echo \'{"event": "opened\' > "$EVENTS"; exit 3', "exit code 3 without"),
        ("echo '[1]' > \"$EVENTS\"", "without a report"),
        ('echo \'{"event": "ended"}\' > "$EVENTS"', "report cannot be read"),
        ("kill -SEGV $$", "signal 11 without a report"),
        # A process that it has started keeps the pipes open.
        ("sleep 1000 & echo $! > sleeper; exit 5", "exit code 5 without a report"),
    ],
)
def test_whatever_the_program_does_the_wait_ends(tmp_path, monkeypatch, does, says):
    pipeline = load(tmp_path)
    fake = tmp_path / "fake"
    fake.write_text(f'#!/bin/sh\nfor EVENTS in "$@"; do :; done\n{does}\n')
    fake.chmod(stat.S_IRWXU)
    pipeline._program = str(fake)
    try:
        with pytest.raises(drpipe.RunError, match=f"(?s){says}"):
            pipeline.run()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.kill(int((tmp_path / "sleeper").read_text()), signal.SIGKILL)


def test_the_words_of_a_run_go_to_logging_and_prints_are_printed(tmp_path, caplog, capsys):
    (tmp_path / "talks.py").write_text(
        "class Talk:\n"
        "    def run(self, msg):\n"
        "        print('printed', msg)\n"
        "        self.log.info('logged %s', msg)\n"
        "        return msg\n"
    )
    talk = {"name": "TALK", "module": "talks", "class": "Talk"}
    caplog.set_level(logging.INFO)
    load(tmp_path, talk, FAIL, last=5).run()
    assert "printed 5" in capsys.readouterr().out
    by_logger = {record.name: record for record in caplog.records}
    assert by_logger["drpipe.run.TALK"].getMessage() == "logged 5"
    failed = by_logger["drpipe.run"]
    assert failed.levelno == logging.WARNING and "step=FAIL" in failed.getMessage()


def test_results_of_a_stage_in_rust(tmp_path):
    report = load(tmp_path, {"name": "SQUARE", "class": "Square"}).run(results=True).check()
    assert sorted(report.results) == [number**4 for number in range(1, 11)]
    assert [step.name for step in report.steps] == ["NUMBERS", "SQUARE", "END", "RESULTS"]
    assert not list(tmp_path.glob("drpipe-py-*"))


def test_results_with_explicit_next_steps_and_settings(tmp_path):
    content = config({"name": "RESULTS", "class": "Square", "next_steps": "END"})
    content["producer"]["next_steps"] = "RESULTS"
    pipeline = Pipeline.load(written(tmp_path, content), {"Integers.last": 2, "pythonpath": "a"})
    report = pipeline.run(results=True, mode="sequential").check()
    assert report.results == [1, 16]
    assert report.steps[-1].name == "RESULTS-2"


@pytest.mark.parametrize("around", ["Pipeline", "Flow"])
def test_results_in_ctapipes_spelling_and_of_python(tmp_path, around):
    modules = tmp_path / "night"
    modules.mkdir()
    (modules / "switch.py").write_text(
        "class Halve:\n    by = 2\n"
        "    def run(self, msg):\n        return (msg / self.by, 'seen')\n"
    )
    content = {
        around: {
            "producer_conf": {"name": "N", "module": "numbers", "class": "Integers"},
            "consumer_conf": {"name": "HALVE", "module": "switch", "class": "Halve"},
        },
        "Integers": {"first": 1, "last": 3},
    }
    pipeline = Pipeline.load(written(modules, content), {"Halve.by": 4})
    results = pipeline.run(results=True).check().results
    assert results == [(0.25, "seen"), (0.5, "seen"), (0.75, "seen")]


def test_a_consumer_has_no_results(tmp_path):
    pipeline = load(tmp_path, consumer="Discard")
    with pytest.raises(drpipe.ConfigError, match="it is a consumer: use a stage there"):
        pipeline.start(results=True)
    (tmp_path / "ends.py").write_text(
        "import drpipe\nclass End(drpipe.Consumer):\n    def run(self, msg): pass\n"
    )
    content = config()
    content["consumer"] = {"name": "END", "module": "ends", "class": "End"}
    with pytest.raises(drpipe.ConfigError, match="it is a consumer: use a stage there"):
        Pipeline.load(written(tmp_path, content)).run(results=True)
    assert not list(tmp_path.glob("drpipe-py-*"))
    with pytest.raises(ValueError, match="results=True"), pipeline.start() as run:
        run.results()


def test_the_pipeline_waits_while_somebody_iterates(tmp_path):
    with load(tmp_path, last=20_000).start(results=True) as run:
        results = run.results()
        taken = [next(results) for _ in range(1000)]
        assert len(run._results._values) <= 100
        results.close()
    # The others were kept.
    report = run.wait().check()
    assert sorted(taken + report.results) == [number**2 for number in range(1, 20_001)]


def test_an_endless_pipeline_ends_when_its_iteration_does(tmp_path):
    with load(tmp_path, last=ENDLESS).start(results=True) as run:
        for value in run.results():
            if value > 10_000:
                break
        run.cancel()
    report = run.wait()
    assert report.verdict == "interrupted"
    assert report.step("END").emitted == report.step("RESULTS").done
    with (
        contextlib.suppress(StopIteration),
        load(tmp_path, last=ENDLESS).start(results=True) as run,
    ):
        iterator = run.results()
        next(iterator)
        # The iterator still exists: the end does not wait for it.
        raise StopIteration
    assert run.wait().verdict == "interrupted"


def test_frames_arrive_as_frames(tmp_path):
    content = {
        "version": 1,
        "producer": {"name": "F", "class": "SynthFrames", "params": {"count": 3, "seed": 1}},
        "consumer": {"name": "CLEAN", "class": "NoiseRemoval"},
    }
    results = Pipeline.load(written(tmp_path, content)).run(results=True).check().results
    assert len(results) == 3
    for frame in results:
        assert isinstance(frame, drpipe.Frame)
        assert frame.data.dtype.kind == "f" and frame.data.ndim == 2


def test_a_journal_knows_what_is_done_with_results_too(tmp_path):
    (tmp_path / "raw").mkdir()
    for name in "ab":
        (tmp_path / "raw" / f"{name}.fits").write_bytes(b"")
    (tmp_path / "paths.py").write_text(
        "class Name:\n    def run(self, msg):\n        return msg.name\n"
    )
    content = {
        "version": 1,
        "producer": {"name": "F", "class": "FitsFiles", "params": {"directory": "raw"}},
        "consumer": {"name": "NAME", "module": "paths", "class": "Name"},
    }
    pipeline = Pipeline.load(written(tmp_path, content, "night.json"))
    first = pipeline.run(results=True, resume=True).check()
    assert len(first.results) == 2 and (tmp_path / "night.journal").exists()
    second = pipeline.run(results=True, resume=True).check()
    assert (second.results, second.skipped) == ([], 2)


def started_in_a_script(tmp_path, results):
    """Returns a Python that has started an endless run, and the run's process."""
    written(tmp_path, config(SLEEP, last=ENDLESS))
    driver = python(
        [
            "-c",
            "import drpipe\n"
            f"run = drpipe.Pipeline.load().start(results={results})\n"
            "next(run.progress())\n"
            "print(run._process._process.pid, flush=True)\n"
            "input()\n",
        ],
        tmp_path,
        stdin=-1,
    )
    return driver, os.pidfd_open(int(driver.stdout.readline()))


def assert_ends(pidfd):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(SECONDS), "the program goes on without its driver"
    os.close(pidfd)


def test_a_run_ends_with_the_python_that_left_it_alone(tmp_path):
    driver, pidfd = started_in_a_script(tmp_path, results=False)
    _, said = driver.communicate("\n")
    assert driver.returncode == 0, said
    assert_ends(pidfd)


@pytest.mark.parametrize("results", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_ends_with_a_python_that_is_killed(tmp_path, results, number):
    driver, pidfd = started_in_a_script(tmp_path, results=results)
    driver.send_signal(number)
    driver.communicate()
    assert_ends(pidfd)
    assert not list(tmp_path.glob("drpipe-py-*"))


def test_a_run_that_is_stopped_raises(tmp_path):
    stops = {**FAIL, "on_error": "stop"}
    with pytest.raises(drpipe.RunStopped, match="as requested") as caught:
        load(tmp_path, stops).run(results=True, ordered=True)
    report = caught.value.report
    assert report.verdict == "stopped" and report.failures[0].step == "FAIL"
    with pytest.raises(LookupError, match="drpipe quarantine show"):
        print(report.failures[0].value)
    run = load(tmp_path, SLEEP, last=ENDLESS).start()
    next(run.progress())
    os.kill(pid_of(run), signal.SIGTERM)
    with pytest.raises(drpipe.RunStopped, match="the run was interrupted before its end"):
        run.wait()


def test_a_step_in_python_that_stops_the_run_is_the_cause(tmp_path):
    (tmp_path / "odd.py").write_text(
        "class Odd:\n    def run(self, msg):\n        raise OverflowError(msg)\n"
    )
    odd = {"name": "ODD", "module": "odd", "class": "Odd", "on_error": "stop"}
    with pytest.raises(drpipe.RunStopped) as caught:
        load(tmp_path, odd).run()
    assert isinstance(caught.value.__cause__, OverflowError)
    (failed,) = caught.value.report.failures
    assert (failed.kind, failed.value, failed.index) == ("builtins.OverflowError", 1, None)


@pytest.mark.parametrize("mode", ["threads", "inline"])
def test_a_failure_names_an_exception_of_the_package_as_users_know_it(tmp_path, mode):
    (tmp_path / "bad.py").write_text(
        "import drpipe\n\n"
        "class Bad:\n    def run(self, msg):\n        raise drpipe.Permanent(msg)\n"
    )
    bad = {"name": "BAD", "module": "bad", "class": "Bad"}
    (failed,) = load(tmp_path, bad, last=1).run(mode=mode).failures
    assert failed.kind == "drpipe.failures.Permanent"
    assert failed.reasons[-1].endswith("\ndrpipe.failures.Permanent: 1")
    assert type(failed.exception) is drpipe.Permanent


def test_results_of_several_workers_are_in_order_if_asked_for(tmp_path):
    content = config({"name": "SQUARE", "class": "Square", "nb_thread": 3}, last=200)
    content["consumer"]["nb_thread"] = 2
    pipeline = Pipeline.load(written(tmp_path, content))
    report = pipeline.run(results=True, ordered=True).check()
    assert report.results == [number**4 for number in range(1, 201)]


def test_every_name_of_the_documented_report_is_known(tmp_path):
    report = load(tmp_path).run()
    document = (ROOT / "docs" / "EVENTS.md").read_text()
    for name in ("verdict", "bottleneck", "quarantined", "config_hash", "finish_failures"):
        assert f"`{name}`" in document and hasattr(report, name)
