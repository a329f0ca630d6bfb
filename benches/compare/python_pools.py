"""Integers through a pool of two processes, each a task that gives it back.

    python3 python_pools.py POOL COUNT

Prints the seconds from the first integer to the last result. The processes
have been started by then: only the hand-over is measured.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool

WORKERS = 2


def same(number):
    return number


def timed(results):
    """The seconds that it takes to get all results, and how many they are."""
    start = time.perf_counter()
    count = sum(1 for _ in results())
    return time.perf_counter() - start, count


def imap(count, chunk):
    with Pool(WORKERS) as pool:
        pool.map(same, range(1000), 1)
        return timed(lambda: pool.imap_unordered(same, range(count), chunk))


def executor_map(count):
    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(same, range(1000)))
        return timed(lambda: executor.map(same, range(count), chunksize=1))


def executor_submit(count):
    def results():
        futures = [executor.submit(same, number) for number in range(count)]
        return (future.result() for future in futures)

    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(same, range(1000)))
        return timed(results)


POOLS = {
    "imap_unordered-1": lambda count: imap(count, 1),
    "imap_unordered-256": lambda count: imap(count, 256),
    "executor-map": executor_map,
    "executor-submit": executor_submit,
}

if __name__ == "__main__":
    name, count = sys.argv[1], int(sys.argv[2])
    seconds, arrived = POOLS[name](count)
    if arrived != count:
        sys.exit(f"{arrived} results of {count}")
    print(seconds)
