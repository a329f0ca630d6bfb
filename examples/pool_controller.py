"""A program that was written for pydidas' WorkerController; only its import has changed.

    python3 examples/pool_controller.py

needs the program, beside the interpreter, on PATH or named by DRPIPE, and the
package: pip install ./python
"""

from drpipe.pool import WorkerController


def integrate(frame, slope, offset=0):
    """Stands for the integration of a frame."""
    return frame * slope + offset


def main():
    results = {}
    controller = WorkerController(n_workers=2)
    controller.change_function(integrate, 2, offset=5)
    controller.sig_results.connect(results.__setitem__)
    controller.sig_failed.connect(lambda frame, error: print(f"frame {frame} failed: {error}"))
    controller.add_tasks(range(10))
    controller.finalize_tasks()
    controller.start()
    controller.wait()
    print("progress:", controller.progress)
    print("results:", [results[frame] for frame in range(10)])


if __name__ == "__main__":
    main()
