"""The programs of examples/ that are written in Python."""

from runs import ROOT, needs_program, python

pytestmark = needs_program


def said(name, tmp_path):
    """Runs an example and returns what it prints."""
    process = python([str(ROOT / "examples" / name)], tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.splitlines()


def test_python_drive(tmp_path):
    lines = said("python_drive.py", tmp_path)
    assert lines[0] == str([number**2 for number in range(1, 21, 2)])
    assert "done in" in "".join(lines[1:])


def test_python_feed(tmp_path):
    assert said("python_feed.py", tmp_path) == [
        str([(f"number {number}", number**2) for number in range(1, 6)]),
        "25 squared: 625",
        "items: 6",
    ]


def test_pool_executor(tmp_path):
    lines = said("pool_executor.py", tmp_path)
    assert sorted(lines[:6]) == [
        "frame 10: 20",
        "frame 11: 22",
        "frame 12: 24",
        "frame 13 failed: frame 13 has no stars",
        "frame 14: 28",
        "frame 15: 30",
    ]
    assert lines[6:] == [
        f"sum: {sum(range(20, 1020))}",
        "frame 99: it took longer than the time limit of 0.2 s",
    ]


def test_pool_dirac(tmp_path):
    assert sorted(said("pool_dirac.py", tmp_path)) == [
        *[f"request {number}: {10 * number}" for number in (0, 1, 2)],
        "request 3 raised: request 3 is broken",
        "request 4: 40",
        "request 5: Timer expired ( 62 : Timed out)",
    ]


def test_pool_controller(tmp_path):
    assert said("pool_controller.py", tmp_path) == [
        "progress: 1.0",
        f"results: {[2 * n + 5 for n in range(10)]}",
    ]
