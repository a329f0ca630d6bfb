"""A pool of worker processes as an executor of concurrent.futures.

    python3 examples/pool_executor.py

needs the program, beside the interpreter, on PATH or named by DRPIPE, and the
package: pip install ./python
"""

from concurrent.futures import as_completed

from drpipe.pool import Executor, TaskTimeout


def measure(frame, scale=1):
    """Stands for the measurement of a frame."""
    if frame == 13:
        raise ValueError("frame 13 has no stars")
    return frame * scale


def stand_still(seconds):
    """Stands for code that hangs."""
    import time

    time.sleep(seconds)


def main():
    with Executor(max_workers=2, queue=100, retries=1, name="measure") as pool:
        futures = {pool.submit(measure, frame, scale=2): frame for frame in range(10, 16)}
        for future in as_completed(futures):
            if future.exception() is None:
                print(f"frame {futures[future]}: {future.result()}")
            else:
                print(f"frame {futures[future]} failed: {future.exception()}")

        # Many short calls travel together.
        print("sum:", sum(pool.map(measure, range(20, 1020), chunksize=50)))

        # Options of a call never collide with its arguments.
        future = pool.task(stand_still, 3600).named("frame 99").within(0.2).submit()
        try:
            future.result()
        except TaskTimeout as error:
            print("frame 99:", error)


if __name__ == "__main__":
    main()
