"""The pools that are compared, each behind the same few methods."""

import os
import threading
from concurrent import futures

WORKERS = 2


class Futures:
    """An executor of `concurrent.futures`."""

    chunk = 50

    def __init__(self, make):
        self.pool = make()

    def submit(self, function, *args):
        return self.pool.submit(function, *args)

    def result(self, submitted):
        return submitted.result()

    def map(self, function, items, chunk):
        return self.pool.map(function, items, chunksize=chunk)

    def close(self):
        self.pool.shutdown()


class Library(Futures):
    """`multiprocessing.Pool`."""

    #: Its own chunks.
    chunk = None

    def submit(self, function, *args):
        return self.pool.apply_async(function, args)

    def result(self, submitted):
        return submitted.get()

    def map(self, function, items, chunk):
        if chunk is None:
            return self.pool.map(function, items)
        return self.pool.imap(function, items, chunk)

    def close(self):
        self.pool.close()
        self.pool.join()


class Pebble(Futures):
    """`pebble.ProcessPool`."""

    def submit(self, function, *args):
        return self.pool.schedule(function, args=args)

    def map(self, function, items, chunk):
        return self.pool.map(function, items, chunksize=chunk).result()

    def limited(self, function, seconds):
        return self.pool.schedule(function, timeout=seconds)

    def close(self):
        self.pool.close()
        self.pool.join()


class Executor(Futures):
    """`drpipe.pool.Executor`."""

    def limited(self, function, seconds):
        return self.pool.task(function).within(seconds).submit()


class Dask(Futures):
    """A client of dask.distributed with a cluster on this machine."""

    chunk = 1

    def __init__(self, make):
        self.client = make()
        super().__init__(lambda: self.client.get_executor(pure=False))

    def map(self, function, items, chunk):
        return self.pool.map(function, items)

    def close(self):
        self.client.shutdown()


class Ray:
    """ray on this machine."""

    chunk = 1

    def __init__(self, make):
        self.ray = make()
        self.remote = {}

    def submit(self, function, *args):
        if function not in self.remote:
            self.remote[function] = self.ray.remote(function)
        return self.remote[function].remote(*args)

    def result(self, submitted):
        return self.ray.get(submitted)

    def map(self, function, items, chunk):
        return map(self.ray.get, [self.submit(function, item) for item in items])

    def close(self):
        self.ray.shutdown()


class Callbacks:
    """A pool that tells results by a callback, in a thread of its own."""

    chunk = None

    def __init__(self):
        self.results, self.events, self.count = {}, {}, 0

    def told(self, number, result):
        self.results[number] = result
        self.events[number].set()

    def submit(self, function, *args):
        self.count += 1
        self.events[self.count] = threading.Event()
        self.queue(function, self.count, args)
        return self.count

    def result(self, number):
        self.events[number].wait()
        del self.events[number]
        return self.results.pop(number)


class ProcessPool(Callbacks):
    """A `ProcessPool` of DIRAC's interface."""

    def __init__(self, make):
        super().__init__()
        self.pool = make(WORKERS, WORKERS, 100, poolCallback=self.told)
        self.pool.daemonize()

    def queue(self, function, number, args, **more):
        # Not every pool takes 0 for a result.
        args = [argument + 1 for argument in args]
        queued = self.pool.createAndQueueTask(
            function, args, taskID=number, usePoolCallbacks=True, blocking=True, **more
        )
        assert queued["OK"], queued

    def close(self):
        self.pool.finalize(2)


class Controller(Callbacks):
    """A `WorkerController` of pydidas' interface, with one function."""

    def __init__(self, make, function):
        super().__init__()
        self.controller = make(WORKERS, function)
        try:
            from qtpy.QtCore import Qt

            self.controller.sig_results.connect(self.told, Qt.DirectConnection)
        except (ImportError, TypeError):
            self.controller.sig_results.connect(self.told)
        self.controller.start()

    def queue(self, function, number, args):
        self.controller.add_task(number)

    def close(self):
        self.controller.finalize_tasks()
        while self.controller.isRunning():
            self.controller.wait(1)


def _drpipe_executor():
    from drpipe.pool import Executor as Made

    return Executor(lambda: Made(WORKERS))


def _drpipe_process_pool():
    from drpipe.pool import ProcessPool as Made

    return ProcessPool(Made)


def _drpipe_controller():
    from drpipe.pool import WorkerController

    return Controller(WorkerController, _application())


def _application():
    """Makes the Qt application that controllers need where there is Qt. Returns their function."""
    from tasks import empty

    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        from qtpy import QtCore

        _kept.append(QtCore.QCoreApplication.instance() or QtCore.QCoreApplication([]))
    except ImportError:
        pass
    return empty


_kept = []


def _library():
    import multiprocessing

    return Library(lambda: multiprocessing.Pool(WORKERS))


def _loky():
    import loky

    return Futures(lambda: loky.ProcessPoolExecutor(WORKERS))


def _pebble():
    import pebble

    return Pebble(lambda: pebble.ProcessPool(WORKERS))


def _dask():
    import distributed

    def make():
        return distributed.Client(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None, silence_logs=50
        )

    return Dask(make)


def _ray():
    import ray

    def make():
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level=50)
        return ray

    return Ray(make)


def _dirac(fast):
    os.environ["DIRAC_FAST_PROCESS_POOL"] = "yes" if fast else "no"
    from DIRAC.Core.Utilities.ProcessPool import ProcessPool as Made

    return ProcessPool(Made)


def _pydidas():
    function = _application()
    from pydidas.multiprocessing import WorkerController

    return Controller(WorkerController, function)


#: How each pool is made, by the name of its distribution and what it is called here.
ALL = {
    "drpipe Executor": _drpipe_executor,
    "drpipe ProcessPool": _drpipe_process_pool,
    "drpipe WorkerController": _drpipe_controller,
    "ProcessPoolExecutor": lambda: Futures(lambda: futures.ProcessPoolExecutor(WORKERS)),
    "multiprocessing.Pool": _library,
    "loky": _loky,
    "Pebble": _pebble,
    "distributed": _dask,
    "ray": _ray,
    "DIRAC, fast": lambda: _dirac(True),
    "DIRAC": lambda: _dirac(False),
    "pydidas": _pydidas,
}
