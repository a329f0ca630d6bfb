"""The private directory of a Python-driven run, for sockets and the objects for workers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile

#: The prefix of the directories' names.
_PREFIX = "drpipe-py-"
#: The file that the driver keeps locked while it lives.
_LOCK = "lock"


class PrivateDirectory:
    """A directory that only this user can enter.

    The run removes the directory when it ends. If the driver is killed, the program removes it,
    or else the next run that this user drives.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        # The file gets its final name after it is locked, so that no other driver considers
        # the directory abandoned.
        unlocked = os.path.join(self.path, "unlocked")
        self._lock = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(unlocked, os.path.join(self.path, _LOCK))

    def file(self, name: str) -> str:
        """Returns the path of a file in the directory."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """Removes the directory, as far as possible."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def remove_abandoned() -> None:
    """Removes the directories of this user's killed drivers."""
    temporary = tempfile.gettempdir()
    with contextlib.suppress(OSError):
        for name in os.listdir(temporary):
            path = os.path.join(temporary, name)
            if name.startswith(_PREFIX) and _is_own(path) and _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_own(path: str) -> bool:
    with contextlib.suppress(OSError):
        status = os.lstat(path)
        return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    return False


def _is_abandoned(path: str) -> bool:
    try:
        lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
