"""Passes a step's log records on to the run's log: one line on standard error for each."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Optional

#: Begins the line of a record.
_MARK = b"\x1e"
_STDERR = 2


class RecordLines(logging.Handler):
    """Writes each record as a line that the program can distinguish from other output."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record with one system call, so that lines of threads do not mix."""
        try:
            if not _is_printed(record):
                os.write(_STDERR, line_of(record))
        except Exception:
            self.handleError(record)


def line_of(record: logging.LogRecord) -> bytes:
    """Returns the line of a record, with its exception."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + _FORMATTER.formatException(record.exc_info)
    elif record.exc_text:
        text += "\n" + record.exc_text
    if record.stack_info:
        text += "\n" + record.stack_info
    # Names of files may have surrogates.
    text = text.encode("utf-8", "backslashreplace").decode()
    fields = {"level": _level(record.levelno), "logger": record.name, "message": text}
    return _MARK + json.dumps(fields).encode() + b"\n"


def _is_printed(record: logging.LogRecord) -> bool:
    """Whether a logger that the record passes prints it, as astropy's does.

    What is printed joins the run's log, too: the record would stand there twice.
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


def install() -> None:
    """Sends the log records of this process to the run's log.

    The environment variable DRPIPE_LOG_LEVEL has their lowest level; without it that is INFO.
    """
    root = logging.getLogger()
    root.addHandler(RecordLines())
    wanted = os.environ.get("DRPIPE_LOG_LEVEL", "").strip().upper()
    level = logging.getLevelName(wanted) if wanted else logging.INFO
    root.setLevel(level if isinstance(level, int) else logging.INFO)
    logging.captureWarnings(True)


def of_step(step: str) -> logging.Logger:
    """Returns the logger of a step."""
    return logging.getLogger(f"drpipe.{step}")
