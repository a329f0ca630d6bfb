"""Compares task pools: drpipe's against those of others.

    python3.11 -m venv /tmp/pools && /tmp/pools/bin/pip install -r benches/pools/requirements.txt
    export DRPIPE=target/release/drpipe PYTHONPATH=python/src
    /tmp/pools/bin/python benches/pools/pools.py

In each of 5 rounds the pools take turns, each in a process of its own; the medians are printed, with
the machine's load. All have two worker processes. Peers that are not installed are left out.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from importlib import metadata

import candidates
import rows

#: How long one pool may take in one round, in seconds.
LONGEST = 90


def measured(name):
    """Measures a pool in a process of its own. Returns its rows, those up to a failure."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--measure", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += f"\nnothing more within {LONGEST} s"
    if process.returncode:
        reason = (err.strip().splitlines() or ["no reason"])[-1]
        print(f"{name}: {reason}", file=sys.stderr)
    return [json.loads(line) for line in out.splitlines() if line.startswith("[")]


def version(name):
    """Returns a pool's name with its version, if it is installed."""
    try:
        return f"{name} {metadata.version(name.partition(',')[0])}"
    except metadata.PackageNotFoundError:
        return name


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", help="measure one pool, and print its rows")
    parser.add_argument("names", nargs="*", help="the pools; by default all", default=[])
    options = parser.parse_args()
    if options.measure:
        for row in rows.rows(candidates.ALL[options.measure]):
            print(json.dumps(row), flush=True)
        # Some pools leave threads that do not end.
        os._exit(0)
    found = {}
    for _ in range(options.rounds):
        for name in options.names or candidates.ALL:
            for row, value in measured(name):
                found.setdefault(row, {}).setdefault(version(name), []).append(value)
    load = os.getloadavg()[0]
    print(f"load {load:.1f}, {os.cpu_count()} processors, {options.rounds} rounds, medians")
    for row, values in found.items():
        print(row)
        for name, several in values.items():
            print(f"    {name:<28} {statistics.median(several):12.1f}")


if __name__ == "__main__":
    main()
