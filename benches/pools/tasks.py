"""The tasks that the pools run."""

import os
import signal
import time

import numpy as np


def empty(number):
    """Does nothing."""
    return number


def mebibyte(_):
    """Returns an array of 1 MiB."""
    return np.ones(131_072)


def endless():
    """Runs for longer than anybody waits."""
    time.sleep(600)


def die():
    """Ends its worker."""
    os.kill(os.getpid(), signal.SIGKILL)
