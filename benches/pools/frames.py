"""Compares `drpipe.run` and `Pipeline.run` with `ProcessPoolExecutor`: the same frames, the same step.

    pip install ./python numpy astropy
    DRPIPE=target/release/drpipe python3 benches/pools/frames.py DIRECTORY [pairs]

Each job is a whole program: it reads 120 frames, copies of the FITS files in DIRECTORY, takes a
statistic of each with numpy in two worker processes, and has the results in order. Jobs take turns;
the median of the ratios within a turn is what counts. With a job's name in the place of the number of
pairs, this program is that job.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMES, WORKERS = 120, 2


class Measure:
    """The step of a pipeline: the median of a frame, and the scatter around it."""

    def run(self, frame):
        return f"{frame.name} {statistic(frame.data)}"


def statistic(data):
    """The work of all jobs."""
    import numpy as np

    median = np.median(data)
    return f"{median:.3f} {1.4826 * np.median(np.abs(data - median)):.3f}"


def measure(path):
    """The task of a pool."""
    from astropy.io import fits

    with fits.open(path) as file:
        return f"{os.path.basename(path)} {statistic(file[0].data)}"


def paths(directory):
    """The frames of a job."""
    return sorted(str(path) for path in Path(directory).glob("*.fits"))


def in_pool(directory):
    """A pool of Python's library."""
    from concurrent.futures import ProcessPoolExecutor

    import numpy  # noqa: F401
    from astropy.io import fits  # noqa: F401

    with ProcessPoolExecutor(WORKERS) as pool:
        return list(pool.map(measure, paths(directory)))


def in_run(directory):
    """The same task in `drpipe.run`."""
    import numpy  # noqa: F401
    from astropy.io import fits  # noqa: F401

    import drpipe

    return drpipe.run(paths(directory), measure, workers=WORKERS).check().results


def in_pipeline(directory):
    """A configured pipeline, which reads the frames itself."""
    import drpipe

    config = {
        "version": 1,
        "pythonpath": os.path.dirname(os.path.abspath(__file__)),
        "ordered": True,
        "producer": {"name": "IN", "class": "FitsFiles", "params": {"directory": str(directory)}},
        "stagers": [{"name": "READ", "class": "ReadFits"}],
        "consumer": {"name": "OUT", "module": "frames", "class": "Measure", "nb_process": WORKERS},
    }
    file = Path(directory) / "pipeline.json"
    file.write_text(json.dumps(config))
    return drpipe.Pipeline.load(file).run(results=True).check().results


JOBS = {"pool": in_pool, "run": in_run, "pipeline": in_pipeline}


def timed(job, directory):
    """The seconds of a whole program."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, str(directory), job],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    seconds = time.perf_counter() - began
    assert done.stdout.count(b"\n") == FRAMES, done.stdout
    return seconds


def main():
    directory = Path(sys.argv[1])
    what = sys.argv[2] if len(sys.argv) > 2 else "15"
    if what in JOBS:
        print(*JOBS[what](directory), sep="\n")
        return
    found = paths(directory)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(FRAMES):
            source = Path(found[number % len(found)])
            (Path(folder) / f"{number:03}.fits").write_bytes(source.read_bytes())
        turns = [{job: timed(job, folder) for job in JOBS} for _ in range(int(what))]
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {len(turns)} turns")
    for job in JOBS:
        seconds = statistics.median(turn[job] for turn in turns)
        ratio = statistics.median(turn[job] / turn["pool"] for turn in turns)
        print(f"    {job:<10} {seconds:7.3f} s {ratio:7.2f}")


if __name__ == "__main__":
    main()
