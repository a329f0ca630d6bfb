"""What the programs of pydidas' documentation import, without Qt and pydidas."""

import time
from types import SimpleNamespace

from drpipe.pool import WorkerController


class QSignalSpy(list):
    """Notes what a signal emits, as Qt's does."""

    def __init__(self, signal):
        super().__init__()
        signal.connect(lambda *values: self.append(list(values)))


class TimerSaveRuntime:
    """Measures the time of a block, as pydidas' does."""

    def __enter__(self):
        self.begun = time.monotonic()
        self.runtime = None
        return lambda: self.runtime

    def __exit__(self, *_):
        self.runtime = time.monotonic() - self.begun


QtTest = SimpleNamespace(QSignalSpy=QSignalSpy)
pydidas = SimpleNamespace(
    multiprocessing=SimpleNamespace(WorkerController=WorkerController),
    core=SimpleNamespace(utils=SimpleNamespace(TimerSaveRuntime=TimerSaveRuntime)),
)
