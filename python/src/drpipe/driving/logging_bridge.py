"""Forwards a run's log to `logging`.

- The run's own lines go to the logger `drpipe.run`.
- The log records of a step go to the logger `drpipe.run.STEP`.
- A step's output goes to `sys.stdout` or `sys.stderr`, so in a notebook it appears below the
  cell.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any, Dict

LOGGER = logging.getLogger("drpipe.run")

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def options() -> Dict[str, str]:
    """Returns the program's log options.

    They suppress what Python's loggers would drop, and the lines of steps, which arrive as
    events.
    """
    level = "debug" if LOGGER.isEnabledFor(logging.DEBUG) else "info"
    return {"--log-format": "json", "--log-level": f"{level},drpipe::steps=off"}


def of_step(event: Dict[str, Any]) -> None:
    """Logs or prints what a step has logged or printed."""
    level, text = event.get("level", "info"), event.get("text", "")
    if event.get("logger"):
        logger = logging.getLogger(f"{LOGGER.name}.{event['step']}")
        logger.log(_LEVELS.get(level, logging.INFO), "%s", text)
        return
    stream = sys.stdout if level in ("debug", "info") else sys.stderr
    if stream is not None:
        print(text, file=stream, flush=True)


def of_run(line: str) -> str:
    """Logs a line of the program's log and returns its text."""
    try:
        fields = json.loads(line)
        level = _LEVELS[fields.pop("level").lower()]
        text = fields.pop("message")
    except (ValueError, KeyError, AttributeError, TypeError):
        if line.strip():
            LOGGER.warning("%s", line)
        return line
    fields.pop("timestamp", None)
    text += "".join(f" {name}={value}" for name, value in fields.items() if value is not None)
    text = plain(str(text))
    LOGGER.log(level, "%s", text)
    return text


def plain(text: str) -> str:
    """Escapes characters that control a terminal, change the direction of text or are
    invisible, and indents continuation lines, so that none looks like a separate message."""
    return _UNSEEN.sub(_escaped, text).replace("\n", "\n    ")


#: The same characters as in the program: src/base/escape.rs.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    return "\\r" if character == "\r" else f"\\u{{{ord(character):x}}}"
