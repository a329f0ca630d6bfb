"""Compares task pools: drpipe's against those of Python's library, loky, pebble, DIRAC and pydidas.

    pip install ./python numpy loky pebble     # peers that are not installed are left out
    DRPIPE=target/release/drpipe python3 benches/pools/pools.py [rounds]

In each round the candidates take turns; the medians are printed, with the machine's load. All pools
have two worker processes.
"""

import os
import statistics
import sys
import time
from concurrent import futures
from importlib import metadata

import numpy as np

WORKERS = 2
TRIPS, TASKS, CHUNKED, ARRAYS = 500, 5_000, 50_000, 200


def empty(number):
    """The task of most rows."""
    return number


def mebibyte(_):
    """A result of one MiB."""
    return np.ones(131_072)


def in_executor(make):
    """Measures an executor of `concurrent.futures`."""
    with make() as pool:
        list(pool.map(empty, range(100)))
        trips = []
        for number in range(TRIPS):
            began = time.perf_counter()
            pool.submit(empty, number).result()
            trips.append(time.perf_counter() - began)
        yield "round trip, p50 [us]", statistics.median(trips) * 1e6
        began = time.perf_counter()
        for future in [pool.submit(empty, number) for number in range(TASKS)]:
            future.result()
        yield "submitted one by one [1/s]", TASKS / (time.perf_counter() - began)
        began = time.perf_counter()
        assert sum(1 for _ in pool.map(empty, range(CHUNKED), chunksize=50)) == CHUNKED
        yield "map, chunks of 50 [1/s]", CHUNKED / (time.perf_counter() - began)
        began = time.perf_counter()
        assert sum(len(array) for array in pool.map(mebibyte, range(ARRAYS))) == ARRAYS * 131_072
        yield "results of 1 MiB [MiB/s]", ARRAYS / (time.perf_counter() - began)
        began = time.perf_counter()
    yield "shutdown [ms]", (time.perf_counter() - began) * 1e3


def in_multiprocessing():
    """Measures `multiprocessing.Pool`."""
    import multiprocessing

    with multiprocessing.Pool(WORKERS) as pool:
        pool.map(empty, range(100))
        trips = []
        for number in range(TRIPS):
            began = time.perf_counter()
            pool.apply(empty, (number,))
            trips.append(time.perf_counter() - began)
        yield "round trip, p50 [us]", statistics.median(trips) * 1e6
        began = time.perf_counter()
        for result in [pool.apply_async(empty, (number,)) for number in range(TASKS)]:
            result.get()
        yield "submitted one by one [1/s]", TASKS / (time.perf_counter() - began)
        began = time.perf_counter()
        assert len(pool.map(empty, range(CHUNKED), chunksize=50)) == CHUNKED
        yield "map, chunks of 50 [1/s]", CHUNKED / (time.perf_counter() - began)
        began = time.perf_counter()
        assert sum(len(array) for array in pool.imap(mebibyte, range(ARRAYS))) == ARRAYS * 131_072
        yield "results of 1 MiB [MiB/s]", ARRAYS / (time.perf_counter() - began)


def in_process_pool(made):
    """Measures a `ProcessPool` of DIRAC's interface."""
    done = []
    pool = made(WORKERS, WORKERS, 100, poolCallback=lambda *result: done.append(result))
    pool.daemonize()
    began = time.perf_counter()
    for number in range(TASKS):
        pool.createAndQueueTask(empty, [number + 1], taskID=number, usePoolCallbacks=True)
    while len(done) < TASKS:
        time.sleep(0.001)
    yield "submitted one by one [1/s]", TASKS / (time.perf_counter() - began)
    began = time.perf_counter()
    pool.finalize(2)
    yield "shutdown [ms]", (time.perf_counter() - began) * 1e3


def candidates():
    """Returns what can be measured here, by name."""
    from drpipe.pool import Executor, ProcessPool

    found = {
        "drpipe Executor": lambda: in_executor(lambda: Executor(WORKERS)),
        "drpipe ProcessPool": lambda: in_process_pool(ProcessPool),
        "ProcessPoolExecutor": lambda: in_executor(lambda: futures.ProcessPoolExecutor(WORKERS)),
        "multiprocessing.Pool": in_multiprocessing,
    }
    try:
        import loky

        name = f"loky {metadata.version('loky')}"
        found[name] = lambda: in_executor(lambda: loky.ProcessPoolExecutor(WORKERS))
    except ImportError:
        pass
    try:
        os.environ["DIRAC_FAST_PROCESS_POOL"] = "yes"
        from DIRAC.Core.Utilities.ProcessPool import ProcessPool as Peer

        name = f"DIRAC {metadata.version('DIRAC')}, fast"
        found[name] = lambda: in_process_pool(Peer)
    except ImportError:
        pass
    return found


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    measured = {}
    for _ in range(rounds):
        for name, measure in candidates().items():
            for row, value in measure():
                measured.setdefault(row, {}).setdefault(name, []).append(value)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {rounds} rounds")
    for row, values in measured.items():
        print(row)
        for name, found in values.items():
            print(f"    {name:<24} {statistics.median(found):12.1f}")


if __name__ == "__main__":
    main()
