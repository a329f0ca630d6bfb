"""The programs of pydidas' documentation, word for word but for two lines of imports."""

import re
from pathlib import Path

import pytest

from runs import needs_program, python

pytestmark = [needs_program, pytest.mark.usefixtures("the_program")]
PROGRAMS = Path(__file__).parent / "documented"


def run(name, tmp_path):
    program = python([str(PROGRAMS / name)], tmp_path)
    out, err = program.communicate(timeout=60)
    assert (err, program.returncode) == ("", 0)
    return out


def results(text):
    """Returns the pairs of a printed list of results: of numbers such as 2 or np.int64(2)."""
    numbers = [int(found) for found in re.findall(r"(?<![\w.])-?\d+(?![\w.])", text)]
    return list(zip(numbers[::2], numbers[1::2]))


def test_the_minimal_program(tmp_path):
    out = run("minimal.py", tmp_path)
    assert re.search(r"^Progress at  1\.0$", out, re.MULTILINE)
    (found,) = [results(line) for line in out.splitlines() if line.startswith("[")]
    assert found == [(n, 2 * n + 5) for n in range(10)]
    assert re.search(r"^WorkerController is alive:  (True|False)$", out, re.MULTILINE)


def test_the_program_with_a_restart(tmp_path):
    out = run("with_restart.py", tmp_path)
    found = [results(line) for line in out.splitlines() if line.startswith("Results: ")]
    first = [(n, 2 * n + 5) for n in range(20)]
    assert found == [first[:10], first, first + [(n, -n) for n in range(20, 30)]]
    assert out.count("WorkerController is alive:  True") == 2
    assert len(re.findall(r"^Runtime was  \d", out, re.MULTILINE)) == 3
