"""What is measured of each pool."""

import contextlib
import os
import statistics
import time

from candidates import Callbacks, Executor, Pebble
from tasks import die, empty, endless, mebibyte

#: How long a row lasts at most, in seconds, if it can be cut short.
LONGEST = 2.0
TRIPS, TASKS, CHUNKED, ARRAYS = 500, 5_000, 50_000, 200
IDLE = 3.0


def rows(make):
    """Makes a pool and yields the name and value of each row."""
    began = time.perf_counter()
    pool = make()
    assert pool.result(pool.submit(empty, 1)) is not None
    yield "first result [ms]", (time.perf_counter() - began) * 1e3
    for submitted in [pool.submit(empty, number) for number in range(20)]:
        pool.result(submitted)
    yield "round trip, p50 [us]", round_trip(pool)
    yield "submitted one by one [1/s]", one_by_one(pool)
    if not isinstance(pool, Callbacks):
        yield from of_results(pool)
    if isinstance(pool, (Executor, Pebble)):
        yield "time limit told after [ms]", late(pool)
        yield "dead worker replaced after [ms]", replaced(pool)
    yield f"idle for {IDLE:g} s, processor time [ms]", idle()
    began = time.perf_counter()
    pool.close()
    yield "end of an idle pool [ms]", (time.perf_counter() - began) * 1e3


def round_trip(pool):
    trips = []
    end = time.perf_counter() + LONGEST
    while len(trips) < TRIPS and time.perf_counter() < end:
        began = time.perf_counter()
        pool.result(pool.submit(empty, 1))
        trips.append(time.perf_counter() - began)
    return statistics.median(trips) * 1e6


def one_by_one(pool):
    # As many as are done in a second or so.
    count, rate = 20, 0.0
    while count <= TASKS:
        began = time.perf_counter()
        for submitted in [pool.submit(empty, number) for number in range(count)]:
            pool.result(submitted)
        took = time.perf_counter() - began
        rate = count / took
        if count == TASKS or took > LONGEST / 4:
            break
        count = min(TASKS, 10 * count)
    return rate


def of_results(pool):
    began = time.perf_counter()
    assert sum(1 for _ in pool.map(empty, range(CHUNKED // 10), 1)) == CHUNKED // 10
    yield "map, chunks of 1 [1/s]", CHUNKED // 10 / (time.perf_counter() - began)
    if pool.chunk != 1:
        began = time.perf_counter()
        assert sum(1 for _ in pool.map(empty, range(CHUNKED), pool.chunk)) == CHUNKED
        yield "map, chunks of 50 [1/s]", CHUNKED / (time.perf_counter() - began)
    began = time.perf_counter()
    assert sum(len(array) for array in pool.map(mebibyte, range(ARRAYS), 1)) == ARRAYS * 131_072
    yield "results of 1 MiB [MiB/s]", ARRAYS / (time.perf_counter() - began)


def late(pool):
    began = time.perf_counter()
    with contextlib.suppress(TimeoutError):
        pool.result(pool.limited(endless, 1))
    return (time.perf_counter() - began - 1) * 1e3


def replaced(pool):
    began = time.perf_counter()
    with contextlib.suppress(Exception):
        pool.result(pool.submit(die))
    # Two of them have room in two workers only.
    for submitted in [pool.submit(time.sleep, 0.02) for _ in range(2)]:
        pool.result(submitted)
    return (time.perf_counter() - began - 0.02) * 1e3


def idle():
    """Returns the processor time of this process and all that it has started."""
    time.sleep(0.5)
    before = spent()
    time.sleep(IDLE)
    return (spent() - before) / 1e6


def spent():
    parents, times = {}, {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parents[int(pid)] = int(file.read().rpartition(")")[2].split()[1])
            times[int(pid)] = 0
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    times[int(pid)] += int(file.read().split()[0])
        except OSError:
            continue

    def is_ours(pid):
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return sum(time for pid, time in times.items() if is_ours(pid))
