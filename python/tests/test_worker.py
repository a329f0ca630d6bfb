"""The worker's process and the protocol."""

from __future__ import annotations

import json
import logging
import signal
import struct
import sys

import msgpack
import pytest

from drpipe.worker import log


def by_route(said):
    routes = {}
    for output in said.outputs:
        routes.setdefault(output.route, []).append(output.value)
    return routes


def tuple_of(value):
    return tuple(msgpack.unpackb(value.data))


def test_what_is_returned_goes_to_the_default_next_step(start):
    router = start("Returns").ready()
    said = router.run(*range(1000))
    assert said.values == [2 * number for number in range(1000)]
    assert {output.route for output in said.outputs} == {0}
    assert sum(c["count"] for c in said.completions) == 1000
    assert [c["silent"] for c in said.completions] == [0] * len(said.completions)
    assert router.stop()[0] == 0


def test_each_yielded_value_is_a_message_and_none_is_silent(start):
    said = start("Yields").ready().run(3, 0, 1)
    assert said.values == [0, 1, 2, 0]
    assert sum(c["silent"] for c in said.completions) == 1


def test_send_msg_reaches_the_step_that_it_names(start):
    router = start("Sends").ready()
    routes = by_route(router.run(5))
    assert [tuple_of(routes[0][0]), routes[0][1]] == [(5, "NEXT"), 5]
    assert tuple_of(routes[1][0]) == (5, "OTHER")
    assert by_route(router.finish()) == {0: ["the end"], 1: ["really"]}


def test_a_tuple_names_its_next_step_with_its_last_item(start):
    router = start("Odd", params={"offset": 10}).ready()
    said = router.run(1, 2, ["a", "b"], ["a", "b", "OTHER"], ["OTHER"], None)
    routes = by_route(said)
    assert routes[1][0] == 11.0 and isinstance(routes[1][0], float)
    assert routes[0][0] == 12.0
    assert tuple_of(routes[0][1]) == ("a", "b")
    assert tuple_of(routes[1][1]) == ("a", "b")
    assert tuple_of(routes[0][2]) == ("OTHER",)
    assert sum(c["silent"] for c in said.completions) == 1


def test_rust_steps_get_tuples_as_arrays(start):
    said = start("Odd", to_python=[False, False]).ready().run(["a", "b"])
    assert said.values == [["a", "b"]]


def test_an_exception_is_a_failure_with_its_traceback_and_emits_nothing(start):
    router = start("Raises").ready()
    said = router.run(0, 1, 2, 3, 4, 5, 6, 7, 8)
    failures = {c["first"] - 1: c["failure"] for c in said.completions if c["failure"]}
    assert sorted(failures) == [1, 2, 3, 4, 5, 6, 7]
    retryable, (summary, trace) = failures[1]
    assert retryable and summary == "ValueError: one is bad"
    assert "styles.py" in trace and 'raise ValueError("one is bad")' in trace
    assert "task.py" not in trace
    assert failures[2][1][0] == "SystemExit: 3"
    assert not failures[3][0] and failures[3][1][0] == "Permanent: three is hopeless"
    why = "module cannot be sent (in key 'a', item 1): TypeError: cannot pickle 'module' object"
    assert failures[4] == (False, [why])
    assert not failures[5][0] and 'did you mean "OTHER"?' in failures[5][1][0]
    assert failures[6][1][0] == "KeyboardInterrupt"
    assert failures[7][1][0] == "memoryview cannot be sent: use bytes(...)"
    assert said.values == ["before", 0, "before", 8]


def test_what_is_no_messagepack_is_a_permanent_failure(start):
    said = start("Echo").ready().run(b"\x01\x02", 5)
    retryable, texts = said.completions[0]["failure"]
    assert not retryable and "cannot be read as MessagePack" in texts[0]
    assert said.values == [5]


@pytest.mark.parametrize(
    ("cls", "texts"),
    [
        ("NoInit", ["init of NoInit returned False"]),
        ("BadInit", ["OSError: no lamp", "Traceback"]),
        ("Early", ["RuntimeError: send_msg works in run and finish", "Traceback"]),
        ("Retuns", ["the module styles has no class Retuns: did you mean 'Returns'?"]),
    ],
)
def test_a_step_that_cannot_work_says_why(start, cls, texts):
    router = start(cls)
    found = router.receive("INIT_FAILED").failure[1]
    assert len(found) == len(texts)
    assert all(text in part for text, part in zip(texts, found))
    assert router.ended()[0] == 0


def test_a_generator_is_advanced_as_it_is_granted(start):
    router = start("Counts", role="producer", params={"total": 7}).ready()
    numbers, other, results = [], [], []
    while results[-1:] != ["no more"]:
        said = router.grant(4)
        assert said.calls <= 4
        routes = by_route(said)
        numbers += routes.get(0, [])
        other += routes.get(1, [])
        results.append(said.result)
    assert numbers == list(range(7))
    assert other == [-number for number in range(7)]
    assert len(results) > 2
    assert router.finish().failure is None


def test_what_a_producer_made_before_it_failed_is_kept(start):
    router = start("Stops", role="producer").ready()
    said = router.grant(100)
    values = said.values
    while said.result == "more":
        said = router.grant(100)
        values += said.values
    assert said.result == "failed" and values == [1, 2]
    assert not said.failure[0] and said.failure[1][0] == "RuntimeError: no more light"


def test_a_producer_may_be_a_plain_function(start):
    said = start("AtOnce", role="producer").ready().grant(1)
    assert said.result == "no more"
    assert said.values == [0, 1, 2, 3, 4, "last"]


def produced(router):
    outputs, result = [], "more"
    while result == "more":
        said = router.grant(100)
        outputs += said.outputs
        result = said.result
    return outputs


def test_a_producers_origins(start, tmp_path):
    file = tmp_path / "raw.fits"
    file.touch()
    params = {"path": str(file)}
    outputs = produced(start("Files", role="producer", params=params).ready())
    assert [output.origin for output in outputs] == [str(file), "/x/n1.fits", None, None]


def test_a_producer_names_its_origins(start, tmp_path):
    outputs = produced(start("Named", role="producer", params={"path": "p"}).ready())
    assert [output.origin for output in outputs[::3]] == ["item p", None]


def test_outputs_carry_the_origin_of_their_input(start):
    router = start("Returns").ready()
    router.work(router.one(5, 21, origin="raw/ü.fits"), router.many(6, [1, 2]))
    said = router.done(3)
    assert [(o.origin, o.value) for o in said.outputs] == [
        ("raw/ü.fits", 42),
        (None, 2),
        (None, 4),
    ]


def test_the_end_of_a_pipeline_ignores_results(start):
    router = start("Yields", role="consumer", next_steps=[]).ready()
    said = router.run(2, 3)
    assert said.values == []
    assert sum(c["silent"] for c in said.completions) == 2


def test_log_records_and_prints_are_lines(start):
    router = start("Talks").ready()
    assert router.run(7).values == [7]
    code, out, err = router.stop()
    assert (code, out) == (0, "printed 7\n")
    lines = err.split("\n")
    assert "a complaint" in lines
    (record,) = [json.loads(line[1:]) for line in lines if line.startswith("\x1e")]
    assert record["level"] == "error" and record["logger"] == "drpipe.STEP"
    assert record["message"].startswith("it has a value of 7\nTraceback")


def test_the_level_of_the_log_is_configured(start):
    router = start("Talks", environment={"DRPIPE_LOG_LEVEL": "debug"}).ready()
    router.run(7)
    assert '"level": "debug"' in router.stop()[2]


def test_names_that_a_class_has_stay_its_own(start):
    assert start("Owns").ready().run(1).values == [["mine", [1], ["NEXT", "OTHER"]]]


def test_the_page_says_what_is_worked_on_and_a_segfault_leaves_a_traceback(start):
    router = start("Dies").ready()
    assert router.page[2] > 0
    router.work(router.many(42, [1]))
    code, _, err = router.ended()
    assert code == -signal.SIGSEGV
    assert "Segmentation fault" in err and "styles.py" in err
    assert router.page[0] == 42 and router.page[1] > 0


def test_the_page_rests_when_nothing_is_begun(start):
    router = start("Kept").ready()
    pid, argv = router.run(1).values
    assert pid == router.process.pid and len(argv) == 1
    assert router.page[0] == 0


def test_a_worker_beyond_its_memory_reports_and_ends(start):
    router = start("Memory", memory_limit=200 << 20).ready()
    router.work(router.many(1, [1, 300, 2]))
    said = router.done(2)
    assert said.values == [1, 300]
    assert router.ended()[0] == 114


def test_the_end_of_the_lifeline_ends_the_worker(start):
    router = start("Echo").ready()
    router.lifeline.close()
    assert router.ended()[0] == -signal.SIGKILL
    assert not router.directory.exists()


@pytest.mark.parametrize("head", [b"", b"\x63", b"\x11\x01\0\0\0", b"\x11\0\0\0\0x"])
def test_a_router_that_talks_nonsense_is_left(start, head):
    router = start("Echo").ready()
    router.send(head)
    code, _, err = router.ended()
    assert code == 113 and "the worker ends" in err


def test_a_producer_says_how_much_it_will_emit_and_what_it_has_made(start):
    router = start("Expects", role="producer", params={"total": 2}).ready()
    assert router.receive("NOTES").notes == [("expected", 2)]
    router.send(b"\x10" + struct.pack("<I", 5))
    announce = []
    said = router.receive_any()
    while said.kind == "NOTES":
        announce += said.notes
        said = router.receive_any()
    assert announce == [("product", "0.log", None), ("product", "1.log", None)]
    assert said.kind == "PRODUCED" and said.values == [0, 1]


def test_a_producer_that_cannot_say_how_much_works_all_the_same(start):
    router = start("Expects", role="producer", params={"total": 1, "wrong": True}).ready()
    router.send(b"\x10" + struct.pack("<I", 5))
    assert router.receive("NOTES").notes == [("product", "0.log", None)]
    assert router.receive("PRODUCED").values == [0]
    assert "the number of expected values is not known" in router.stop()[2]


def test_only_a_producer_is_asked_what_it_expects(start):
    assert start("Expects").ready().stop()[0] == 0


def test_products_come_before_the_report_with_the_origin_of_their_input(start):
    router = start("Saves", next_steps=[]).ready()
    router.work(router.one(1, 1, origin="a.fits"), router.one(2, 3, origin="b.fits"))
    announce, done = [], 0
    while done < 2:
        said = router.receive_any()
        if said.kind == "NOTES":
            announce += said.notes
        else:
            done += sum(c["count"] for c in said.completions)
    assert announce == [("product", "out/1.npy", "a.fits")], "a failed call has made nothing"
    router.send(b"\x12")
    assert router.receive("NOTES").notes == [("product", "out/all.npy", None)]
    router.receive("FINISHED")
    assert router.stop()[0] == 0


def test_outside_of_a_pipeline_a_product_is_nothing(tmp_path):
    import drpipe
    from drpipe.api import announce

    drpipe.product(tmp_path / "x")
    assert announce.pending == [] and announce.take() == []


def test_a_record_that_its_logger_prints_is_not_logged_once_more(capfd):
    lines = log.RecordLines()
    logger = logging.Logger("lab.own")
    logging.Logger.manager.loggerDict["lab.own"] = logger
    record = logger.makeRecord("lab.own", logging.WARNING, "f", 1, "odd units", (), None)
    lines.emit(record)
    assert "odd units" in capfd.readouterr().err
    logger.addHandler(logging.StreamHandler(sys.stderr))
    lines.emit(record)
    assert "odd units" not in capfd.readouterr().err
    del logging.Logger.manager.loggerDict["lab.own"]
