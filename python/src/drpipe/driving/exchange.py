"""The driver's side of the connections to the workers of its run."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from types import GeneratorType
from typing import Any, Deque, Iterable, Iterator, List, Optional, Tuple

from ..protocol import failures, session_pickles
from . import channel

#: The most results that are kept ready for an iteration.
_LIMIT = 100
#: The most messages that a killed worker can leave unfinished.
_MOST_IN_HAND = 1024


class Results:
    """A receiver, on its own thread, of the values that the last step delivers.

    During an iteration, the pipeline waits for its consumer. Otherwise all values are kept.
    """

    def __init__(self, directory: str) -> None:
        self._listener = channel.listen(directory, channel.RESULTS)
        self._changed = threading.Condition()
        self._values: Deque[Any] = deque()
        self._limit: Optional[int] = None
        self._complete = False
        self._error: Optional[BaseException] = None
        #: The numbers of the latest messages. A killed worker may have delivered values
        #: without reporting them; its successor then gets the same messages again.
        self._latest: Deque[int] = deque(maxlen=_MOST_IN_HAND)
        self._thread = threading.Thread(target=self._serve, name="drpipe-results", daemon=True)

    def begin(self) -> None:
        """Starts to accept workers."""
        self._thread.start()

    def close(self) -> None:
        """Stops accepting workers. The values that have arrived are complete."""
        _wake(self._listener)

    def iterate(self) -> Iterator[Any]:
        """Yields each value once, until the run ends.

        Raises:
            Exception: if a value could not be loaded.
        """
        self._set_limit(_LIMIT)
        return self._iterate()

    def _iterate(self) -> Iterator[Any]:
        try:
            while True:
                with self._changed:
                    while not self._values and not self._complete:
                        self._changed.wait()
                    if not self._values:
                        break
                    value = self._values.popleft()
                    self._changed.notify_all()
                yield value
            if self._error is not None:
                raise self._error
        finally:
            self._set_limit(None)

    def keep_all(self) -> None:
        """Lets the pipeline run without waiting for an iteration."""
        self._set_limit(None)

    def rest(self) -> Tuple[List[Any], Optional[BaseException]]:
        """Waits for the end of the run and takes the remaining values.

        Returns them, and the exception if the next value could not be loaded.
        """
        with self._changed:
            while not self._complete:
                self._changed.wait()
            values, error = list(self._values), self._error
            self._values.clear()
            self._error = None
        return values, error

    def _set_limit(self, limit: Optional[int]) -> None:
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def _serve(self) -> None:
        with self._listener:
            while self._error is None:
                try:
                    worker = channel.accept(self._listener)
                except OSError:
                    break
                self._take_from(worker)
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def _take_from(self, worker: channel.Channel) -> None:
        before = frozenset(self._latest)
        try:
            while True:
                message, value = worker.receive()
                if message not in before:
                    self._latest.append(message)
                    self._put(value)
        except channel.End:
            with contextlib.suppress(OSError):  # The worker was stopped meanwhile.
                worker.dismiss()
        except (EOFError, OSError):
            pass  # The worker has died; the run may start a new one.
        except Exception as error:
            self._error = error
        finally:
            worker.close()

    def _put(self, value: Any) -> None:
        with self._changed:
            while self._limit is not None and len(self._values) >= self._limit:
                self._changed.wait()
            self._values.append(value)
            self._changed.notify_all()


class Feeder:
    """A sender of an iterable's items to the producer, as the producer asks for them.

    A separate thread advances the iterable.
    """

    def __init__(self, directory: str, items: Iterable[Any], is_forked: bool = False) -> None:
        """Listens for the producer.

        Args:
            directory: the driver's private directory.
            items: the items.
            is_forked: whether the producer is a fork of this process as it is now.
        """
        self._shared = session_pickles.definitions() if is_forked else None
        self._listener = channel.listen(directory, channel.ITEMS)
        self._items = items
        self._sending = threading.Lock()
        self._worker: Optional[channel.Channel] = None
        self._stopped = self._ended = False
        #: The exception that the iterable raised.
        self.error: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._serve, name="drpipe-items", daemon=True)

    def begin(self) -> None:
        """Starts to wait for the producer."""
        self._thread.start()

    def _has_main(self) -> bool:
        """Whether the producer has what the main module of this process has."""
        shared = self._shared
        if shared is None:
            return False
        now = session_pickles.definitions()
        return all(shared.get(name) is thing for name, thing in now.items())

    def stop(self) -> None:
        """Ends the items now, even while the iterable is producing the next one."""
        self._stopped = True
        # A thread that holds the lock is sending; it checks the flag afterward.
        if self._sending.acquire(blocking=False):
            try:
                self._end_if_stopped()
            except OSError:
                pass  # The worker has gone, so it needs no end marker.
            finally:
                self._sending.release()

    def close(self) -> None:
        """Ends the items and stops waiting for workers."""
        self.stop()
        _wake(self._listener)

    def _serve(self) -> None:
        with self._listener:
            try:
                worker = channel.accept(self._listener)
            except OSError:
                return
        worker.has_main = self._has_main
        try:
            self._feed(worker)
        except (EOFError, OSError):
            pass  # The worker has gone and takes no more items.
        finally:
            worker.close()
            if isinstance(self._items, GeneratorType):
                self._items.close()

    def _feed(self, worker: channel.Channel) -> None:
        with self._sending:
            self._worker = worker
            self._end_if_stopped()
        iterator = None
        wanted = channel.PORTION
        while not self._ended:
            if wanted == 0:
                worker.await_ask()
                wanted = channel.PORTION
            wanted -= 1
            try:
                iterator = iter(self._items) if iterator is None else iterator
                item = next(iterator)
            except StopIteration:
                self.stop()
                return
            except BaseException as error:
                self.error = error
                self._fail(error)
                return
            with self._sending:
                if not self._ended:
                    self._send(item)
                    self._end_if_stopped()

    def _send(self, item: Any) -> None:
        assert self._worker is not None
        try:
            self._worker.send(item)
        except OSError:
            raise
        except Exception as error:
            self.error = error
            self._worker.send_failure(f"an item cannot be pickled: {failures.summary(error)}")
            self._ended = True

    def _fail(self, error: BaseException) -> None:
        text = ": ".join(failures.of(error).texts)
        with self._sending:
            if not self._ended and self._worker is not None:
                self._ended = True
                self._worker.send_failure(text)

    def _end_if_stopped(self) -> None:
        if self._stopped and not self._ended and self._worker is not None:
            self._ended = True
            self._worker.send_end()


def _wake(listener: socket.socket) -> None:
    """Ends another thread's wait for a connection."""
    with contextlib.suppress(OSError):  # No thread waits any longer.
        listener.shutdown(socket.SHUT_RDWR)
