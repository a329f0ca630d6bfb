"""A task as it travels, and as a worker runs it."""

import functools
import operator
import sys
import textwrap
import types

import numpy as np
import pytest

from drpipe.pool import task as tasks
from drpipe.pool.errors import RemoteError
from drpipe.pool.payload import Calls, Payload, decode, decode_result
from drpipe.pool.task import Raised, Tasks
from drpipe.protocol.segments import BUFFER_FROM, SHARED_FROM, Segment


def run(function, *args, calls=None, worker=None, **kwargs):
    """Runs a task as a worker does, and returns the result."""
    payload = (calls or Calls()).encode(function, args, kwargs)
    return decode_result((worker or Tasks()).run(*payload, no_limit))


def no_limit(seconds):
    raise AssertionError("the task has no limit")


def add(a, b=1):
    return a + b


class Adder:
    """A callable object, and a class with a method."""

    def __init__(self, base):
        self.base = base

    def __call__(self, x):
        return self.base + x

    def method(self, x):
        return self.base * x


@pytest.mark.parametrize("value", [0, None, False, "", [], (), {}, b"", float("inf"), 1 + 2j])
def test_falsy_values_pass(value):
    assert run(same, value) == value
    assert type(run(same, value)) is type(value)


def same(value):
    return value


def test_any_callable_runs():
    assert run(add, 2) == 3
    assert run(add, 2, b=5) == 7
    assert run(len, "abc") == 3
    assert run(operator.add, 1, 2) == 3
    assert run(functools.partial(add, 2), 4) == 6
    assert run(Adder(3), 4) == 7
    assert run(Adder(3).method, 4) == 12
    assert run("abc".upper) == "ABC"
    assert run([3, 1, 2].index, 1) == 1
    assert run(Adder, 3).base == 3


def test_a_callable_with_a_state_is_pickled_each_time():
    calls, worker, adder = Calls(), Tasks(), Adder(1)
    assert run(adder, 1, calls=calls, worker=worker) == 2
    adder.base = 10
    assert run(adder, 1, calls=calls, worker=worker) == 11
    items = [3, 1, 2]
    assert run(items.index, 2, calls=calls, worker=worker) == 2
    items.reverse()
    assert run(items.index, 2, calls=calls, worker=worker) == 0


def test_a_closure_is_pickled_each_time():
    calls, worker, count = Calls(), Tasks(), 1
    assert run(lambda: count, calls=calls, worker=worker) == 1
    closure = lambda: count  # noqa: E731
    assert run(closure, calls=calls, worker=worker) == 1
    count = 2
    assert run(closure, calls=calls, worker=worker) == 2


def test_a_named_function_is_pickled_and_loaded_once():
    calls, worker = Calls(), Tasks()
    first, second = (decode(*calls.encode(add, (n,), {})) for n in (1, 2))
    assert first.is_named
    assert first.function is not None and first.function == second.function
    for n in range(3):
        assert run(add, n, calls=calls, worker=worker) == n + 1
    assert list(worker._functions.values()) == [add]


def test_a_worker_keeps_the_latest_functions():
    calls, worker = Calls(), Tasks()
    names = [name for name in dir(operator) if not name.startswith("_")]
    functions = [getattr(operator, name) for name in names]
    functions = [f for f in functions if isinstance(f, types.BuiltinFunctionType)]
    module = types.ModuleType("many")
    sys.modules["many"] = module
    for n in range(100):
        exec(f"def f{n}(): return {n}", vars(module))
    try:
        for n in range(100):
            assert run(getattr(module, f"f{n}"), calls=calls, worker=worker) == n
        assert len(worker._functions) == 64
        assert len(calls._kept) == 64
        assert run(module.f0, calls=calls, worker=worker) == 0
    finally:
        del sys.modules["many"]


def test_large_memory_lies_beside_the_pickles():
    small = np.arange(BUFFER_FROM // 8 - 1)
    frame = np.arange(BUFFER_FROM // 8)
    large = np.arange(SHARED_FROM // 8)
    header, buffers = Calls().encode(same, ([small, frame, large],), {})
    assert [type(buffer) for buffer in buffers] == [bytes, Segment]
    assert len(header) < BUFFER_FROM + 1000
    for sent, come in zip([small, frame, large], run(same, [small, frame, large])):
        assert np.array_equal(sent, come)


@pytest.mark.parametrize("size", [10, BUFFER_FROM, SHARED_FROM])
def test_a_worker_may_change_its_arrays_and_a_retry_gets_them_as_they_were(size):
    array = np.zeros(size // 8 + 1)
    payload = Calls().encode(increase, (array,), {})
    worker = Tasks()
    for _ in range(2):
        assert decode_result(worker.run(*payload, no_limit))[0] == 1
    assert array[0] == 0


def increase(array):
    array += 1
    return array


def test_an_array_that_is_read_only_arrives_writable():
    array = np.zeros(BUFFER_FROM)
    array.flags.writeable = False
    assert run(increase, array)[0] == 1


@pytest.mark.parametrize("size", [10, BUFFER_FROM, SHARED_FROM])
def test_the_caller_may_change_an_array_after_it_has_submitted_it(size):
    array = np.zeros(size // 8 + 1)
    payload = Calls().encode(same, (array,), {})
    array[:] = 7
    assert decode_result(Tasks().run(*payload, no_limit))[0] == 0


def test_a_task_tells_its_limit():
    told = []
    payload = Calls().encode(add, (1,), {}, limit=0.25)
    assert decode_result(Tasks().run(*payload, told.append)) == 2
    assert told == [0.25]


def test_a_result_that_cannot_be_pickled_raises():
    with pytest.raises(TypeError, match="pickle"):
        run(generator)


def generator():
    return (n for n in range(3))


def test_without_cloudpickle_a_lambda_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr("drpipe.protocol.session_pickles._pickler", lambda: None)
    with pytest.raises(Exception, match="cloudpickle"):
        Calls().encode(lambda: 1, (), {})


@pytest.fixture
def main(monkeypatch):
    """A main module with a function, in a session."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec("def f(x): return x + 1", vars(module))
    return module


def test_functions_of_the_main_module_go_by_name_if_workers_have_them(main):
    calls = Calls()
    calls.workers_begin(True)
    assert decode(*calls.encode(main.f, (1,), {})).is_named
    exec(
        textwrap.dedent("""
        class Point:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return self.x == other.x
        def g(point): return Point(point.x * 2)
    """),
        vars(main),
    )
    later = calls.encode(main.g, (main.Point(4),), {})
    assert not decode(*later).is_named
    come = decode_result(Tasks().run(*later, no_limit))
    assert come == main.Point(8)
    assert decode(*calls.encode(main.f, (1,), {})).is_named


def test_a_function_that_was_defined_anew_is_the_new_one(main):
    calls = Calls()
    calls.workers_begin(True)
    calls.encode(main.f, (1,), {})
    exec("def f(x): return x + 100", vars(main))
    payload = calls.encode(main.f, (1,), {})
    assert not decode(*payload).is_named
    assert decode_result(Tasks().run(*payload, no_limit)) == 101


def test_workers_without_the_main_module_get_its_code(main):
    calls = Calls()
    calls.workers_begin(False)
    assert not decode(*calls.encode(main.f, (1,), {})).is_named


class Odd(Exception):
    """Can be pickled, and not loaded."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def raised(function):
    """Returns what a worker says aside of an exception, as the caller reads it."""
    try:
        function()
    except BaseException as error:
        kind, item, content = tasks.read_aside(
            tasks.aside(tasks.EXCEPTION, 7, tuple(Raised.of(error)))
        )
        assert (kind, item) == (tasks.EXCEPTION, 7)
        return Raised(*content).exception()


def test_an_exception_has_the_traceback_of_the_worker():
    error = raised(lambda: {}["k"])
    assert type(error) is KeyError and error.args == ("k",)
    assert "test_pool_tasks.py" in str(error.__cause__)


def throw(error):
    raise error


def test_an_exception_that_cannot_be_loaded_is_a_remote_error():
    error = raised(lambda: throw(Odd(1, 2)))
    assert type(error) is RemoteError
    assert str(error) == "Odd: 1 and 2"
    assert error.kind.endswith("test_pool_tasks.Odd")
    assert "throw" in str(error.__cause__)


def test_an_exception_that_is_too_long_is_a_remote_error_with_its_text():
    error = raised(lambda: throw(ValueError("x" * 1_000_000)))
    assert type(error) is ValueError and len(str(error)) == 1_000_000
    error = raised(lambda: throw(ValueError("x" * 2_000_000)))
    assert type(error) is RemoteError
    assert str(error).startswith("ValueError: xxx")


def test_a_chain_of_exceptions_is_in_the_traceback():
    def chain():
        try:
            throw(ValueError("inner"))
        except ValueError as error:
            raise OSError("outer") from error

    error = raised(chain)
    assert type(error) is OSError
    assert "inner" in str(error.__cause__)


def test_what_is_no_result_is_refused():
    with pytest.raises(ValueError):
        decode_result(Payload(b"\x80", ()))
