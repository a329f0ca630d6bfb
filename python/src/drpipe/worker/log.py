"""Forwards a step's log records to the run's log, one line on standard error per record."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import List, Optional

#: The prefix of a record's line.
_MARK = b"\x1e"
_STDERR = 2


class RecordLines(logging.Handler):
    """A handler that writes each record as a line that the program can tell from other output."""

    def __init__(self) -> None:
        """Creates a handler that writes immediately."""
        super().__init__()
        #: The lines kept for a run. None in a worker, which writes them to the run's log.
        self.kept: Optional[List[bytes]] = None

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record with one system call, so that lines of different threads do not mix."""
        try:
            if _is_printed(record):
                return
            if self.kept is None:
                os.write(_STDERR, line_of(record))
                return
            self.kept.append(line_of(record))
            # Do as Python does if logging is not configured.
            if logging.lastResort is not None and record.levelno >= logging.lastResort.level:
                logging.lastResort.emit(record)
        except Exception:
            self.handleError(record)


def line_of(record: logging.LogRecord) -> bytes:
    """Returns the line of a record, including its exception."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + _FORMATTER.formatException(record.exc_info)
    elif record.exc_text:
        text += "\n" + record.exc_text
    if record.stack_info:
        text += "\n" + record.stack_info
    # File names may contain surrogates.
    text = text.encode("utf-8", "backslashreplace").decode()
    fields = {"level": _level(record.levelno), "logger": record.name, "message": text}
    return _MARK + json.dumps(fields).encode() + b"\n"


def _is_printed(record: logging.LogRecord) -> bool:
    """Whether a logger that handles the record also prints it, as astropy's does.

    Printed output also goes to the run's log, so the record would appear there twice.
    """
    logger: Optional[logging.Logger] = logging.getLogger(record.name)
    while logger is not None and logger is not logging.root:
        for handler in logger.handlers:
            printed = isinstance(handler, logging.StreamHandler) and handler.stream in (
                sys.stdout,
                sys.stderr,
            )
            if printed and record.levelno >= handler.level:
                return True
        logger = logger.parent if logger.propagate else None
    return False


_FORMATTER = logging.Formatter()


def _level(number: int) -> str:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"


def install() -> RecordLines:
    """Sends the log records of this process to the run's log.

    The environment variable DRPIPE_LOG_LEVEL sets the lowest level; the default is INFO.
    """
    root = logging.getLogger()
    handler = RecordLines()
    root.addHandler(handler)
    wanted = os.environ.get("DRPIPE_LOG_LEVEL", "").strip().upper()
    level = logging.getLevelName(wanted) if wanted else logging.INFO
    root.setLevel(level if isinstance(level, int) else logging.INFO)
    logging.captureWarnings(True)
    return handler


def keep() -> RecordLines:
    """Does what `install` does, but keeps the records until `join` is called."""
    handler = install()
    handler.kept = []
    return handler


def join(handler: RecordLines) -> None:
    """Sends the kept records, and all later ones, to the run's log."""
    kept, handler.kept = handler.kept or [], None
    for line in kept:
        os.write(_STDERR, line)


def of_step(step: str) -> logging.Logger:
    """Returns the logger of a step."""
    return logging.getLogger(f"drpipe.{step}")
