"""The lines that come through a pipe."""

import os

from drpipe.driving.pipes import Lines, of_log


def test_lines_come_whole_and_the_last_one_even_if_it_is_unfinished():
    found = []
    reader, writer = os.pipe()
    lines = Lines(reader, found.append)
    assert lines.read() and found == [], "nothing is there yet"
    os.write(writer, b"one\ntw")
    assert lines.read() and found == [b"one"]
    os.write(writer, b"o\n\nthree")
    os.close(writer)
    assert lines.read() and found == [b"one", b"two", b""]
    assert not lines.read() and found[3:] == [b"three"]
    lines.read_rest()
    assert len(found) == 4
    os.close(reader)


def test_the_rest_of_a_log_is_read_though_its_pipe_is_held_open(caplog):
    reader, writer = os.pipe2(os.O_NONBLOCK)
    lines = of_log(reader)
    size = os.write(writer, b"x" * 99 + b"\n")
    for _ in range(599):
        size += os.write(writer, b"x" * 99 + b"\n")
    os.write(writer, b"the program has died")
    lines.read_rest()
    assert size == 60_000 and len(caplog.messages) == 601
    assert caplog.messages[-1] == "the program has died"
    os.close(reader)
    os.close(writer)
