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


PYDIDAS = {
    "__init__": "import pydidas.multiprocessing, pydidas.apps",
    "multiprocessing/__init__": """
from .app_runner import AppRunner
from .worker_controller import WorkerController
""",
    "multiprocessing/worker_controller": "class WorkerController: pass",
    "multiprocessing/app_runner": """
from .worker_controller import WorkerController
class AppRunner(WorkerController):
    def __init__(self): WorkerController.__init__(self)
""",
    "apps": "from pydidas.multiprocessing import AppRunner",
}
INSTALL = """
import pydidas.apps, pydidas.multiprocessing
kept = pydidas.apps.AppRunner
import drpipe.pool.pydidas as ours
ours.install()
ours.install()
from pydidas.multiprocessing import AppRunner, WorkerController
from pydidas.multiprocessing.app_runner import AppRunner as other
assert AppRunner is other is pydidas.apps.AppRunner is ours.AppRunner
assert WorkerController is ours.WorkerController
assert type(kept()).__mro__[1].__module__ == "pydidas.multiprocessing.worker_controller"
"""


def test_install_reaches_what_pydidas_has_imported_already(tmp_path):
    for name, text in PYDIDAS.items():
        path = tmp_path / "pydidas" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    script = tmp_path / "installs.py"
    script.write_text(INSTALL)
    program = python([str(script)], tmp_path)
    assert program.communicate(timeout=60) == ("", "")
    assert program.returncode == 0
