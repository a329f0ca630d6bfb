"""The program that drpipe starts in the interpreter of a Python step.

Without arguments it is a worker. With `--describe` it answers questions about classes, with
`--rehearse` it tries to start a worker, and with `--inline` it does the work of all workers.
"""

import gc
import os
import sys
from typing import Any, Callable


def find() -> Callable[[], Any]:
    """Returns the function that the arguments ask for."""
    if sys.argv[1:2] == ["--inline"]:
        from drpipe.driving import inline

        gc.enable()
        return lambda: inline.main(sys.argv[2:])
    if sys.argv[1:] == ["--describe"]:
        from drpipe.worker.describe import main
    elif sys.argv[1:2] == ["--rehearse"]:
        from drpipe.worker.worker import rehearse as main
    else:
        from drpipe.worker.worker import main
    return main


def load(carried: str) -> Callable[[], Any]:
    """Does what `find` does, also where a power cut has damaged the compiled files."""
    try:
        return find()
    except (EOFError, ImportError, TypeError, ValueError):
        import shutil

        for directory, _, _ in os.walk(os.path.join(carried, "drpipe"), topdown=False):
            if os.path.basename(directory) == "__pycache__":
                shutil.rmtree(directory, ignore_errors=True)
        for name in [name for name in sys.modules if name.split(".")[0] == "drpipe"]:
            del sys.modules[name]
        return find()


if __name__ == "__main__" and sys.version_info < (3, 9):
    # This version cannot even parse the rest of the package.
    if sys.argv[1:] == ["--describe"]:
        import json

        version = ".".join(str(part) for part in sys.version_info[:3])
        answer = {"python": version, "executable": sys.executable, "too_old": True}
        json.dump(dict(answer, missing=[], classes=[]), sys.stdout)
        sys.exit(0)
    sys.exit("drpipe needs Python 3.9 or later; this is " + sys.version)
if __name__ == "__main__":
    # No import makes garbage, and to look for it takes a tenth of the start. The worker
    # enables the collector before the step's `init`.
    gc.disable()
    carried = os.path.dirname(os.path.abspath(__file__))
    if sys.path[:1] != [carried]:
        # Python leaves the directory out if PYTHONSAFEPATH is set.
        sys.path.insert(0, carried)
    load(carried)()
