"""The log of a run as `logging` gets it."""

import json

from drpipe.driving import logging_bridge


def test_no_line_of_the_log_is_forged_and_none_is_turned(caplog):
    message = "a\nERROR b\r\x1b[31m\u202e"
    with caplog.at_level("INFO", "drpipe.run"):
        logging_bridge.of_run(json.dumps({"level": "INFO", "message": message}))
    assert caplog.messages == ["a\n    ERROR b\\r\\u{1b}[31m\\u{202e}"]
