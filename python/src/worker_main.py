"""What drpipe starts: a worker of a Python step, or with --describe the probe."""

import gc
import os
import sys

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
    if sys.argv[1:2] == ["--inline"]:
        from drpipe.inline import main as run_inline

        gc.enable()
        run_inline(sys.argv[2:])
    elif sys.argv[1:] == ["--describe"]:
        from drpipe.describe import main
    elif sys.argv[1:2] == ["--rehearse"]:
        from drpipe.worker import rehearse as main
    else:
        from drpipe.worker import main
    main()
