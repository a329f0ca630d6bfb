"""What drpipe starts: a worker of a Python step, or with --describe the probe."""

import gc
import os
import sys
from typing import Any, Callable


def find() -> Callable[[], Any]:
    """What is to be done, by the arguments."""
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
    """As `find`; what a power cut has left of compiled files is made anew."""
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
    # Nothing else of this package can be read here.
    if sys.argv[1:] == ["--describe"]:
        import json

        version = ".".join(str(part) for part in sys.version_info[:3])
        answer = {"python": version, "executable": sys.executable, "too_old": True}
        json.dump(dict(answer, missing=[], classes=[]), sys.stdout)
        sys.exit(0)
    sys.exit("drpipe needs Python 3.9 or later; this is " + sys.version)
if __name__ == "__main__":
    # Nothing that is imported becomes garbage: looking for it takes a tenth of the
    # start. The worker enables it before the step's init.
    gc.disable()
    carried = os.path.dirname(os.path.abspath(__file__))
    if sys.path[:1] != [carried]:
        # Python leaves it out when it is told to be careful.
        sys.path.insert(0, carried)
    load(carried)()
