"""Runs with a caller in Python: who provides workers, and what happens when one side dies."""

import json
import os
import signal
import time

import pytest

import drpipe
import runs
from drpipe.api.report import RunError
from drpipe.driving.attach import Attachment, Over, Start
from drpipe.protocol import control, failures
from drpipe.protocol.page import DEADLINE, Page
from drpipe.worker import attached
from runs import config, written

pytestmark = [runs.needs_program, pytest.mark.usefixtures("the_program")]
WORK = {"name": "WORK", "class": "Caller", "nb_process": 2}


class Twice:
    def run(self, number):
        return 2 * number


class Slow:
    """Limits the time of its call itself."""

    def run(self, number):
        if number == 2:
            Page.own.words[DEADLINE] = time.monotonic_ns() + 50_000_000
            time.sleep(600)
        return number


def fork(run, start, cls):
    """Forks a worker, the leader of a process group."""
    pid = os.fork()
    if pid == 0:
        run.forget()
        os.setpgid(0, 0)
        attached.serve(start.lifeline, lambda post: cls())
    start.lifeline.close()
    run.started(start, pid, control.GROUP)
    return pid


def serve(run, cls):
    """Forks workers until the run is over. Returns its end and the processes."""
    pids = []
    while True:
        frame = run.receive(60)
        assert frame is not None, "the run says nothing"
        if isinstance(frame, Start):
            pids.append(fork(run, frame, cls))
        elif isinstance(frame, Over):
            return frame, pids


def step(report, name):
    return next(step for step in report["steps"] if step["name"] == name)


def test_forked_workers_do_the_work(tmp_path):
    run = Attachment(str(written(tmp_path, config(WORK, last=1000))))
    assert run.welcome.endpoint.startswith("ipc://")
    over, pids = serve(run, Twice)
    run.close()
    assert over.exit_code == 0 and len(pids) == 2
    assert step(over.report, "WORK")["done"] == step(over.report, "END")["done"] == 1000
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]


def worked_here(run, step_class):
    """Does the work of a run's only worker in this process. Returns its exit code, and the end."""
    start = run.receive(60)
    seat = attached.Seat(start.lifeline)
    run.started(start, os.getpid(), control.CALLER)
    worker = seat.worker(lambda post: step_class())
    code = worker.begin()
    while code is None:
        code = worker.handle(seat.link.receive())
    seat.close()
    over = run.receive(60)
    run.close()
    return code, over


def test_a_worker_in_the_caller_itself_does_the_work(tmp_path):
    run = Attachment(str(written(tmp_path, config({**WORK, "nb_process": 1}, last=1000))))
    code, over = worked_here(run, Twice)
    assert (code, over.exit_code) == (0, 0)
    assert step(over.report, "WORK")["done"] == 1000


def test_a_worker_may_limit_the_time_of_a_call_itself(tmp_path):
    work = {**WORK, "nb_process": 1, "grace": 0}
    run = Attachment(str(written(tmp_path, config(work, last=3))), ["--quarantine", "bad"])
    over, pids = serve(run, Slow)
    run.close()
    assert step(over.report, "WORK")["failed"] == 1 and step(over.report, "WORK")["done"] == 2
    (entry,) = (tmp_path / "bad").glob("*/*WORK")
    assert "time limit of 0.05" in (entry / "reason.json").read_text()
    assert len(pids) == 2, "the one that was ended has a successor"
    for pid in pids:
        os.waitpid(pid, 0)


def test_a_run_that_is_refused_says_why(tmp_path):
    with pytest.raises(RunError, match='no step has the class "Caller"'):
        Attachment(str(written(tmp_path, config())))
    with pytest.raises(RunError, match="the caller's workers are no threads"):
        Attachment(str(written(tmp_path, config({**WORK, "nb_thread": 1}))))


def test_a_caller_that_cannot_start_workers_gets_its_reason_back(tmp_path):
    run = Attachment(str(written(tmp_path, config(WORK))))
    while True:
        frame = run.receive(60)
        if isinstance(frame, Over):
            break
        frame.lifeline.close()
        run.not_started(frame, failures.Failure(True, ["there is no room", "x" * 100_000]))
    run.close()
    assert frame.exit_code == 3 and "there is no room" in frame.report["reason"]


def test_requests_are_answered(tmp_path):
    run = Attachment(str(written(tmp_path, config({**WORK, "nb_process": 1}, last=100))))
    start = run.receive(60)
    unknown, known = run.pause("NOBODY"), run.pause("WORK")
    answers = [run.receive(60), run.receive(60)]
    assert answers[0].request == unknown and 'no step "NOBODY"' in answers[0].error
    assert answers[1] == (known, None)
    fork(run, start, Twice)
    resumed = run.resume("WORK")
    assert run.receive(60) == (resumed, None)
    over, _ = serve(run, Twice)
    run.close()
    assert over.exit_code == 0
    os.wait()


def test_requests_of_two_threads_have_numbers_of_their_own(tmp_path, monkeypatch):
    run = Attachment(str(written(tmp_path, config({**WORK, "nb_process": 1}, last=100))))
    start, asked, send = run.receive(60), [], run._send

    def send_after_another(frame, fds=()):
        if not asked:
            asked.append(0)
            asked[0] = run.pause("NOBODY")
        send(frame, fds)

    monkeypatch.setattr(run, "_send", send_after_another)
    asked.append(run.resume("WORK"))
    answers = {answer.request: answer.error for answer in (run.receive(60), run.receive(60))}
    assert 'no step "NOBODY"' in answers[asked[0]] and answers[asked[1]] is None
    fork(run, start, Twice)
    over, _ = serve(run, Twice)
    run.close()
    assert over.exit_code == 0
    os.wait()


#: A caller whose fork holds the socket open, and whose workers stand still.
CALLER = """
import os, sys, time
sys.path[:0] = sys.argv[1].split(os.pathsep)
from test_attach import fork
from drpipe.driving.attach import Attachment

class Stuck:
    def run(self, number):
        open("stuck", "w").close()
        time.sleep(600)

run = Attachment(sys.argv[2])
pids = [fork(run, run.receive(60), Stuck) for _ in range(2)]
if os.fork() == 0:
    time.sleep(600)
print(run.process.pid, os.path.dirname(run.welcome.endpoint[6:]), *pids, flush=True)
time.sleep(600)
"""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def eventually(what, done):
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until, what
        time.sleep(0.002)


def test_a_caller_that_dies_takes_the_run_along_whatever_its_forks_hold_open(tmp_path):
    path = str(written(tmp_path, config(WORK)))
    caller = runs.python(["-c", CALLER, os.pathsep.join(runs.TEST_PATHS), path], tmp_path)
    program, private, *workers = caller.stdout.readline().split()
    eventually("the workers are at work", (tmp_path / "stuck").exists)
    assert os.path.isdir(private)
    children = f"/proc/{caller.pid}/task/{caller.pid}/children"
    with open(children, encoding="utf-8") as file:
        forked = [int(pid) for pid in file.read().split() if pid not in (program, *workers)]
    try:
        caller.kill()
        caller.wait()
        for pid in (program, *workers):
            eventually(f"process {pid} has ended", lambda pid=pid: not is_alive(pid))
        assert not os.path.exists(private)
        assert len(forked) == 1 and is_alive(forked[0]), "it has held the socket all the time"
    finally:
        for pid in forked:
            os.kill(pid, signal.SIGKILL)
        caller.stdout.close()
        caller.stderr.close()


def test_a_run_that_dies_tells_its_caller(tmp_path):
    run = Attachment(str(written(tmp_path, config(WORK, last=10))))
    pids = [fork(run, run.receive(60), Slow) for _ in range(2)]
    run.process.kill()
    with pytest.raises(EOFError):
        run.receive(60)
    run.close()
    for pid in pids:
        os.waitpid(pid, 0)


def test_the_numbers_are_those_of_the_document():
    import re

    text = (runs.ROOT / "docs" / "ATTACH.md").read_text()
    found = re.findall(r"^\| ([A-Z_]+) \| (\d+) \|", text, re.MULTILINE)
    assert len(found) == 11
    for name, number in found:
        assert getattr(control, name) == int(number), name


def test_a_program_that_speaks_another_version_is_refused_with_both(tmp_path, monkeypatch):
    monkeypatch.setattr(control.tags, "VERSION", 99)
    with pytest.raises(RunError) as refused:
        Attachment(str(written(tmp_path, config(WORK))))
    said = str(refused.value)
    assert "version 99 of the protocol" in said and "speaks version 3" in said, said
    assert "this Python package" not in said, "program and package have the same release"


def test_a_program_of_another_release_is_named_with_its_version(tmp_path, monkeypatch):
    # A release that knows no callers.
    old = tmp_path / "drpipe"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo drpipe 0.0.9 && exit\nexit 2\n')
    old.chmod(0o755)
    monkeypatch.setenv("DRPIPE", str(old))
    with pytest.raises(RunError) as refused:
        Attachment(str(written(tmp_path, config(WORK))))
    said = str(refused.value)
    assert f"{old} is drpipe 0.0.9, and this Python package is drpipe {drpipe.__version__}" in said


class Long:
    """Passes its time limit with 2."""

    def run(self, number):
        if number == 2:
            time.sleep(0.5)
        return number


def test_a_limit_that_nobody_can_enforce_is_told_once(tmp_path):
    work = {**WORK, "nb_process": 1, "timeout": 0.1}
    file = tmp_path / "events.jsonl"
    run = Attachment(str(written(tmp_path, config(work, last=3))), ["--events", str(file)])
    _, over = worked_here(run, Long)
    assert over.exit_code == 0 and step(over.report, "WORK")["done"] == 3
    events = [json.loads(line) for line in file.read_text().splitlines()]
    (told,) = [event for event in events if event["event"] == "overdue"]
    assert (told["step"], told["worker"], told["limit_s"]) == ("WORK", 0, 0.1)
    assert told["message"] > 0
    (came,) = [event for event in events if event["event"] == "attached"]
    assert (came["step"], came["worker"], came["pid"]) == ("WORK", 0, os.getpid())
