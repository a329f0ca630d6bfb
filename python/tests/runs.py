"""Helpers of tests that run pipelines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = str(ROOT / "python" / "src")
#: Where other Pythons find the modules of the tests.
TEST_PATHS = [str(Path(__file__).parent / folder) for folder in ("pool", "driving", "")]


def program() -> Optional[str]:
    """Returns the path of the drpipe program to test with."""
    named = os.environ.get("DRPIPE")
    built = ROOT / "target" / "debug" / "drpipe"
    return named or (str(built) if built.exists() else None)


needs_program = pytest.mark.skipif(
    program() is None,
    reason="needs the drpipe program: build it (cargo build), or set DRPIPE to its path",
)


def config(*stagers: Dict[str, Any], last: int = 10, consumer: str = "Square") -> Dict[str, Any]:
    """Returns a configuration that passes the integers from 1 to `last` through stagers."""
    return {
        "version": 1,
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"first": 1, "last": last}},
        "stagers": list(stagers),
        "consumer": {"name": "END", "class": consumer},
    }


FAIL = {"name": "FAIL", "class": "Fail", "params": {"every": 5, "how": "permanent"}}
SLEEP = {"name": "SLEEP", "class": "Sleep", "params": {"seconds": 0.001}}
#: More integers than any test waits for.
ENDLESS = 1_000_000_000


def written(directory: Path, content: Dict[str, Any], name: str = "pipeline.json") -> Path:
    """Writes a configuration and returns its path."""
    path = directory / name
    path.write_text(json.dumps(content))
    return path


def python(arguments: List[str], directory: Path, **options: Any) -> "subprocess.Popen[str]":
    """Starts another Python that drives pipelines."""
    environment = {**os.environ, "PYTHONPATH": SOURCES, "DRPIPE": str(program())}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
