"""The private directory of a run that Python drives: sockets, and what workers are given."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile

#: How the names of the directories begin.
_PREFIX = "drpipe-py-"
#: The file in them that is locked for as long as the driver lives.
_LOCK = "lock"


class Private:
    """A directory that nobody else may look into. It goes with the run; should the driver
    be killed, the program removes it, or else the next run that this user drives."""

    def __init__(self) -> None:
        remove_abandoned()
        #: Where it is.
        self.path = tempfile.mkdtemp(prefix=_PREFIX)
        # It gets its name when it is locked: before, nobody takes it for abandoned.
        unlocked = os.path.join(self.path, "unlocked")
        self._lock = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.rename(unlocked, os.path.join(self.path, _LOCK))

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    def remove(self) -> None:
        """Removes it, as far as that can be done."""
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def remove_abandoned() -> None:
    """Removes what this user's drivers have left behind that were killed."""
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
