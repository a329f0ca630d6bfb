"""Runs Python's own tests of process pools against drpipe's `Executor`.

python standard_executors.py [-k PATTERN] test.test_concurrent_futures.test_shutdown ...
"""

import concurrent.futures
import concurrent.futures.process
import sys
import unittest

from drpipe.pool import Executor

# Workers that import this module need it too.
concurrent.futures.ProcessPoolExecutor = Executor
concurrent.futures.process.ProcessPoolExecutor = Executor


def of_drpipe(run):
    """Has the programs that a test starts use drpipe's executor."""

    def start(*arguments, **variables):
        code = arguments[-1].replace("from concurrent.futures import Executor", IMPORT)
        return run(*arguments[:-1], code, PYTHONPATH=":".join(filter(None, sys.path)), **variables)

    return start


IMPORT = "from drpipe.pool import Executor"


if __name__ == "__main__":
    from test.support import script_helper

    script_helper.assert_python_ok = of_drpipe(script_helper.assert_python_ok)
    unittest.main(module=None, argv=["peers", "-v", "-k", "ProcessPool*", *sys.argv[1:]])
