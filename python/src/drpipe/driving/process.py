"""The program's process while it runs a pipeline: its events, its log and its end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional

if TYPE_CHECKING:
    from .forking import Fork

from .pipes import Lines


class Process:
    """A process of the program, with a thread that reads its events and its log.

    The thread calls `on_event` with each event and `on_text` with each line of standard error.
    After all of these, in every case, it calls `on_end` with the exit code.
    """

    def __init__(  # noqa: PLR0917
        self,
        command: List[str],
        environment: Mapping[str, str],
        on_event: Callable[[Dict[str, Any]], None],
        on_text: Callable[[str], None],
        on_end: Callable[[int], None],
        fork: Optional[Fork] = None,
    ) -> None:
        """Starts the process.

        Args:
            command: the command.
            environment: the environment variables.
            on_event: takes an event.
            on_text: takes a line of the log.
            on_end: takes the exit code.
            fork: the fork of this process from which workers are forked.
        """
        self._on_event, self._on_text, self._on_end = on_event, on_text, on_end
        self._events, theirs = os.pipe()
        try:
            # A separate session: Ctrl-C in a terminal then reaches only the driver, which
            # counts interrupts.
            self._process = subprocess.Popen(
                [*command, "--events", f"/dev/fd/{theirs}", *(["--driver-fork"] if fork else [])],
                stdin=subprocess.DEVNULL if fork is None else fork.line.fileno(),
                stderr=subprocess.PIPE,
                env=dict(environment),
                pass_fds=(theirs,),
                start_new_session=True,
                preexec_fn=None if fork is None else lambda: fork.begin(environment),  # noqa: PLW1509
            )
        except BaseException:
            os.close(self._events)
            raise
        finally:
            os.close(theirs)
            if fork is not None:
                fork.close()
        self._thread = threading.Thread(target=self._attend, name="drpipe-run", daemon=True)

    def begin(self) -> None:
        """Starts to read what the process reports."""
        self._thread.start()

    def signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends the process at once. Its workers end with it."""
        self._process.send_signal(signal.SIGKILL)

    def join(self, timeout: Optional[float] = None) -> None:
        """Waits until all callbacks have returned, or the timeout in seconds has passed."""
        self._thread.join(timeout)

    def _attend(self) -> None:
        code = -signal.SIGKILL
        try:
            self._read_all()
            code = self._process.wait()
        except BaseException:
            # The driver would never hear of the run again.
            self._process.kill()
            code = self._process.wait()
            raise
        finally:
            self._on_end(code)

    def _read_all(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        events = Lines(self._events, self._on_event_line)
        texts = Lines(stderr.fileno(), lambda line: self._on_text(line.decode("utf-8", "replace")))
        end = _pidfd(self._process.pid)
        with stderr, selectors.DefaultSelector() as selector:
            for lines in (events, texts):
                selector.register(lines.fd, selectors.EVENT_READ, lines)
            if end is not None:
                selector.register(end, selectors.EVENT_READ, None)
            try:
                while selector.get_map():
                    for key, _ in selector.select():
                        if key.data is None:
                            # Processes that a step started may still hold the pipes open.
                            selector.unregister(end)  # type: ignore[arg-type]
                            events.read_rest()
                            texts.read_rest()
                            return
                        if not key.data.read():
                            selector.unregister(key.fd)
            finally:
                os.close(self._events)
                if end is not None:
                    os.close(end)

    def _on_event_line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return  # The program died while it wrote the line.
        if isinstance(event, dict):
            self._on_event(event)


def _pidfd(pid: int) -> Optional[int]:
    """Returns a descriptor that is readable once the process has ended, if the system can."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
