"""Workers that are forks of the process that drives the run."""

import os
import signal
import sys
import textwrap
import time

import laboratory
import pytest

import drpipe
from drpipe.driving import forking
from runs import needs_program, python

BEGIN = """
import os, random, sys, threading
import numpy as np
import drpipe
from drpipe.driving import forking
"""


def ran(text, directory):
    """Returns what a script prints that drives a run."""
    script = directory / "night.py"
    script.write_text(BEGIN + textwrap.dedent(text))
    process = python([str(script)], directory)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


@pytest.mark.parametrize(
    ("before", "is_safe"),
    [
        ("", True),
        ("log = open('a.log', 'a')", True),
        ("import logging; logging.basicConfig(filename='a.log')", True),
        ("import tempfile; tempfile.mkdtemp()", True),
        ("out = open('a.txt', 'w')", False),
        ("import socket; pair = socket.socketpair()", False),
        ("import mmap; shared = mmap.mmap(-1, 4096)", False),
        ("np.random.seed(1)", False),
        ("np.random.rand(3)", False),
        ("own = np.random.default_rng()", False),
        ("own = random.Random(7)", False),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", False),
    ],
)
def test_what_forks_must_not_share(tmp_path, before, is_safe):
    assert ran(f"{before}\nprint(forking.is_safe())", tmp_path) == f"{is_safe}\n"


@needs_program
def test_workers_know_what_the_script_has_done_by_then(tmp_path):
    text = """
    factors = []

    def times(value):
        return value * factors[0], os.getpid() != driver

    driver = os.getpid()
    factors.append(7)
    for _ in range(2):
        assert forking.is_safe()
        print(drpipe.run(range(3), times, workers=2).check().results)
    """
    assert ran(text, tmp_path) == "[(0, True), (7, True), (14, True)]\n" * 2


@needs_program
def test_each_worker_draws_random_numbers_of_its_own(tmp_path):
    text = """
    def draw(value):
        return os.getpid(), random.random(), np.random.rand()

    assert forking.is_safe()
    drawn = drpipe.run(range(40), draw, workers=2).check().results
    print(len({pid for pid, _, _ in drawn}))
    for place in (1, 2):
        print(len({row[place] for row in drawn}))
    """
    assert ran(text, tmp_path) == "2\n40\n40\n"


@needs_program
def test_what_is_printed_and_logged_comes_once(tmp_path):
    text = """
    import logging
    logging.basicConfig(stream=sys.stdout, format="%(name)s: %(message)s", level="INFO")
    logging.getLogger("drpipe").setLevel("WARNING")
    logging.getLogger("drpipe.run.show").setLevel("INFO")

    def show(value):
        print("printed", value)
        logging.getLogger("own").info("logged %d", value)
        logging.getLogger("own").debug("not logged")

    sys.stdout.write("before ")
    assert forking.is_safe()
    drpipe.run([5], show, results=False).check()
    """
    assert ran(text, tmp_path) == "before printed 5\ndrpipe.run.show: logged 5\n"


@needs_program
def test_exit_functions_of_the_script_run_in_the_script_only(tmp_path):
    text = """
    import atexit

    atexit.register(lambda: print("the end"))

    def same(value):
        return value

    assert forking.is_safe()
    print(drpipe.run([1], same).check().results)
    """
    assert ran(text, tmp_path) == "[1]\nthe end\n"


@needs_program
def test_a_class_of_the_script_is_the_same_in_items_and_results(tmp_path):
    text = """
    class Point:
        def __init__(self, x):
            self.x = x

    class Late(Point):
        pass

    def double(point):
        assert isinstance(point, Point)
        return Point(2 * point.x)

    def points():
        yield Point(1)
        yield Late(2)

    assert forking.is_safe()
    for given in (points, points()):
        found = drpipe.run(given, double).check().results
        print([type(point) is Point for point in found], [point.x for point in found])
    """
    assert ran(text, tmp_path) == "[True, True] [2, 4]\n" * 2


class Unshared(laboratory.Sum):
    shares_import = False


@needs_program
def test_a_class_may_refuse_to_be_shared(monkeypatch, the_program):
    made = []
    monkeypatch.setattr(forking, "is_safe", lambda: True)
    monkeypatch.setattr("drpipe.driving.script.Fork", lambda: made.append(True))
    assert drpipe.run(range(3), Unshared).results == [("Unshared", ["RESULTS"], 3)]
    assert not made


def _processes(script):
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if name.isdigit() and os.fsencode(script) in file.read():
                    found.append(int(name))
        except OSError:
            pass
    return found


@needs_program
def test_no_fork_outlives_a_driver_that_is_killed(tmp_path):
    text = """
    def forever():
        number = 0
        while True:
            number += 1
            yield number

    def same(value):
        return value

    assert forking.is_safe()
    with drpipe.start(forever, same, workers=2) as run:
        print(next(run.results()), flush=True)
        run.wait()
    """
    script = tmp_path / "night.py"
    script.write_text(BEGIN + textwrap.dedent(text))
    process = python([str(script)], tmp_path)
    assert process.stdout.readline() == "1\n"
    assert len(_processes(str(script))) > 3
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 30
    while _processes(str(script)):
        assert time.monotonic() < until, "forks live on"
        time.sleep(0.02)
    process.stdout.close()
    process.stderr.close()


def test_only_linux_has_what_it_needs(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not forking.is_safe()
