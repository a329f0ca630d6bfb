"""A program that was written for DIRAC's ProcessPool; only its import has changed.

    python3 examples/pool_dirac.py

needs the program, beside the interpreter, on PATH or named by DRPIPE, and the
package: pip install ./python
"""

from drpipe.pool import ProcessPool


class Request:
    """Made with the arguments in a worker, and then called."""

    def __init__(self, number, seconds=0):
        self.number = number
        self.seconds = seconds

    def __call__(self):
        import time

        time.sleep(self.seconds)
        if self.number == 3:
            raise RuntimeError("request 3 is broken")
        return {"OK": True, "Value": self.number * 10}


def on_result(task_id, result):
    print(f"request {task_id}: {result['Value'] if result['OK'] else result['Message']}")


def on_exception(task_id, error):
    print(f"request {task_id} raised: {error['Value']}")


def main():
    pool = ProcessPool(1, 2, 10, poolCallback=on_result, poolExceptionCallback=on_exception)
    pool.daemonize()
    for number in range(6):
        queued = pool.createAndQueueTask(
            Request,
            kwargs={"number": number, "seconds": 3600 if number == 5 else 0},
            taskID=number,
            usePoolCallbacks=True,
            timeOut=0.2 if number == 5 else 0,
        )
        assert queued["OK"], queued
    pool.finalize(timeout=30)


if __name__ == "__main__":
    main()
