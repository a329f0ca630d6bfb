"""Detects files that shadow modules of the standard library.

Python finds a `random.py` beside the configuration before its own, even when numpy imports it.
"""

from __future__ import annotations

import os
import sys
from typing import FrozenSet, List, NoReturn, Sequence

#: The modules that a worker imports besides its main module.
OF_A_WORKER = (".log", ".build", ".emit", "..protocol.values", "..protocol.arrays")


def _own_names() -> FrozenSet[str]:
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:
        # Python 3.9 has no such list.
        files = os.listdir(os.path.dirname(os.__file__))
        names = {file.split(".")[0] for file in files}
    return frozenset(names)


def hiding(paths: Sequence[str]) -> List[str]:
    """Returns the files in these directories that shadow modules of the standard library."""
    names = _own_names()
    found = []
    for path in paths:
        try:
            entries = sorted(os.listdir(path or "."))
        except OSError:
            continue
        for entry in entries:
            file = os.path.join(path, entry)
            name, extension = os.path.splitext(entry)
            if name in names and (
                extension == ".py" or os.path.isfile(os.path.join(file, "__init__.py"))
            ):
                found.append(file)
    return found


def loaded() -> List[str]:
    """Returns the files of this process's modules that shadow the standard library's."""
    home = os.path.dirname(os.path.abspath(os.__file__))
    found = []
    for name in sorted(_own_names() & set(sys.modules)):
        file = getattr(sys.modules[name], "__file__", None)
        if name == "__main__" or not file or os.path.splitext(file)[1] != ".py":
            continue
        # Installed packages replace some modules on purpose.
        installed = any(part.endswith("-packages") for part in file.split(os.sep))
        if not installed and not os.path.abspath(file).startswith(home + os.sep):
            found.append(file)
    return found


def why(files: Sequence[str]) -> str:
    """Returns what to do about shadowing files, or an empty string if there are none."""
    if not files:
        return ""
    return f"{' and '.join(map(hides, files))}: rename {'it' if len(files) == 1 else 'them'}"


def hides(file: str) -> str:
    """Returns what is wrong with a shadowing file."""
    return f"{file} hides a module of Python itself"


def trouble(paths: Sequence[str]) -> str:
    """Returns why a worker that searches these directories for modules cannot start.

    The string is empty if a worker can start, or if no file there shadows a module.
    """
    if not hiding(paths):
        return ""
    import subprocess

    # Try in a separate process: this one has already imported the modules.
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    main = os.path.join(os.path.dirname(package), "worker_main.py")
    rehearsal = subprocess.run(
        [sys.executable, main, "--rehearse", *paths],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        check=False,
    )
    return rehearsal.stdout.strip() if rehearsal.returncode else ""


def rehearse(paths: Sequence[str]) -> NoReturn:
    """Imports what a worker imports and ends the process. Prints the reason for a failure."""
    import importlib
    import importlib.util

    sys.path[1:1] = paths
    try:
        for name in OF_A_WORKER:
            importlib.import_module(name, __package__)
        for name in ("msgpack", "numpy"):
            if importlib.util.find_spec(name) is not None:
                importlib.import_module(name)
        from . import log

        log.install()
    except BaseException as error:
        from ..protocol.failures import summary

        print(f"{why(loaded() or hiding(paths))} ({summary(error)})", flush=True)
        os._exit(1)
    os._exit(0)
