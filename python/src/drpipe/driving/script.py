"""Runs functions and classes without a configuration file, for scripts and notebooks."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from ..api.errors import ConfigError, NotCarried
from ..api.report import Report
from ..api.stage import acknowledges, is_singleton, shares_import
from ..protocol.path_names import name_of_path
from ..worker.describe import describe
from . import forking, pickling, program, rewrite
from .adapters import Given, has_run
from .exchange import Feeder
from .forking import Fork
from .pipeline import INLINE, Path, command, launch, write_json
from .private_directory import PrivateDirectory
from .running import Run

#: The keys of a step's configuration that `step` accepts.
_KEYS = (
    *("queue_limit", "queue_bytes", "on_error", "retries", "lost_retries", "backoff"),
    *("timeout", "memory_limit"),
)
#: Characters that a step's name cannot contain.
_FORBIDDEN = str.maketrans(dict.fromkeys("., =/\\\t\n", "_"))
#: The longest name derived from a function's name; it leaves room for a number.
_LONGEST_NAME = 60


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of `run` with its own settings, as returned by `step`."""

    thing: Any
    name: str
    workers: Optional[Union[int, Dict[str, int]]]
    params: Dict[str, Any]
    keys: Dict[str, Any]


def step(
    thing: Any,
    *,
    name: Optional[str] = None,
    workers: Optional[Union[int, Dict[str, int]]] = None,
    params: Optional[Dict[str, Any]] = None,
    **keys: Any,
) -> Step:
    """Gives a function, class or instance its own settings for `run`.

    Args:
        thing: what `run` would take in its place.
        name: the step's name in reports and the log; the default is the function's or class's.
        workers: the number of processes, or {"min": 1, "max": 4}; by default `run` decides.
        params: the parameters of a class.
        keys: keys of a step in the configuration: queue_limit, queue_bytes, on_error, retries,
            lost_retries, backoff, timeout, memory_limit.

    Raises:
        TypeError: if there is no such key, or if `params` are given for anything but a class.

    Example:
        >>> drpipe.step(clean, workers=4, retries=2, timeout=10)  # doctest: +SKIP
    """
    for key in keys:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(_KEYS)}"
            raise TypeError(f"a step has no setting {key!r}; {hint}")
    if params and not isinstance(thing, type):
        raise TypeError(f"params are for a class, but {_name_of(thing)} is not one")
    return Step(thing, name or _name_of(thing), workers, dict(params or {}), keys)


def run(producer: Any, *stages: Any, mode: str = "threads", **options: Any) -> Report:
    """Passes a producer's values through stages and waits for the end.

    Each stage has its own processes. Values arrive unchanged; None is not sent. Failed values
    raise nothing: they are in quarantine and in the report, and `Report.check` raises.

    Args:
        producer: an iterable; a generator function; or a class or instance with a `run`
            that yields. This process advances an iterable as the pipeline has room. Everything
            else runs in a worker.
        stages: functions of one value, or classes or instances with `run`, or one of these
            in a `step` with its own settings. An instance is copied to each worker.
        mode: "threads"; or "inline", which runs everything in this process and thread, one
            value after the other, where pdb, coverage and profilers see it. Values, order and
            failures are the same; nothing is copied, and no `timeout` or `memory_limit` can
            end a call. "sequential" means the same as "inline".
        options: the other options of `start`.

    Returns:
        The report, with the results.

    Raises:
        TypeError: if the producer or a stage has an unsuitable type.
        ValueError: if `workers` and `stages` differ in length.
        ProgramNotFound: if there is no drpipe program.
        ConfigError: if a setting is wrong.
        NotCarried: if something cannot be given to workers.
        RunStopped: if the run was stopped before its end, for example by a failed producer. Its
            cause is the exception, and it has the report of the work done.
        RunError: if the run could not be started, or broke off without a report.
        RunInterrupted: a KeyboardInterrupt that has the report, when the run has ended.

    Example:
        >>> import math
        >>> report = drpipe.run(range(100), math.sqrt, workers=2)  # doctest: +SKIP
        >>> report.results == [math.sqrt(number) for number in range(100)]  # doctest: +SKIP
        True
    """
    with start(producer, *stages, mode=INLINE if mode == "sequential" else mode, **options) as made:
        return made.wait()


def start(
    producer: Any,
    *stages: Any,
    consumer: Any = None,
    workers: Union[int, Sequence[int]] = 1,
    results: bool = True,
    ordered: bool = True,
    mode: str = "threads",
    journal: Optional[Path] = None,
    resume: bool = False,
    quarantine: Optional[Path] = None,
    summary: Optional[Path] = None,
    drain_limit: Optional[float] = None,
) -> Run:
    """Starts in the background what `run` does and returns at once.

    Workers are forks of this process, as in `multiprocessing`, if it has one thread, no open
    files, sockets or shared memory, and no random generator that was seeded or drawn from. Each
    fork seeds its generators anew. Other workers are interpreters of their own: cloudpickle carries
    what a script or a notebook's cell defines to them. Without cloudpickle, each of these loads the
    script again, so the script must do its work below `if __name__ == "__main__":`.

    Args:
        producer: as for `run`.
        stages: as for `run`.
        consumer: one more stage, which comes last.
        workers: the number of processes of each stage, or one number for each.
        results: whether to deliver what the last stage returns to `Run.results` and
            `Report.results`. Otherwise it is dropped.
        ordered: whether results keep the order of the producer's values. Each worker then
            has one value at a time. Otherwise results arrive as they are completed, and many
            small values travel together.
        mode: as for `run`; but "inline" does the work in the thread that calls `Run.wait`,
            and "sequential" in processes, one value after the other.
        journal: a file that records the outcome of each value, by its number and its name: the
            file that it is the path of, or what the producer's `origin` says.
        resume: skips values that the journal records as done. Values without a name must be the
            same as before. A skipped value has no result. What `stages` are is compared by
            their names and parameters, not by their code.
        quarantine: the directory for failed inputs; the default is "quarantine".
        summary: a file to which the report is written as JSON.
        drain_limit: how long a cancelled run may finish what it has begun, in seconds.

    Raises:
        RuntimeError: in a worker that loads the driver's script.
        TypeError, ValueError, ProgramNotFound, NotCarried: as for `run`.
        ValueError: with `resume` but no `journal`, too.
        ConfigError: if a step has a `timeout` or `memory_limit` with mode="inline".
            `Run.wait` raises all other configuration errors.

    Example:
        >>> with drpipe.start(frames(), clean, measure) as run:  # doctest: +SKIP
        ...     for value in run.results():
        ...         print(value)
    """
    if pickling.is_loading():
        raise RuntimeError(
            "a worker is loading this script, which starts a run: put the code that starts it "
            'below if __name__ == "__main__":'
        )
    steps = _steps(producer, [*stages, *([] if consumer is None else [consumer])], workers)
    if mode == INLINE:
        _check_inline(steps)
    options = {
        "--mode": "sequential" if mode == INLINE else mode,
        "--journal": journal,
        "--quarantine": quarantine,
        "--summary": summary,
        "--drain-limit": drain_limit,
    }
    if resume and journal is None:
        raise ValueError("resume=True needs a journal: name its file with journal=")
    flags = [*(["--resume"] if resume else []), *(["--ordered"] if ordered else [])]
    found = program.find()
    fork = Fork() if mode != INLINE and _may_fork(steps) else None
    private = PrivateDirectory()
    try:
        givens = _Givens(private, mode == INLINE, fork is not None)
        config, fed = _configuration(steps, givens, results)
        file = private.file("pipeline.json")
        write_json(file, config)
        if fork is not None:
            fork.given = givens.here
        return launch(
            command(found, file, None, options, flags),
            private,
            mode,
            results=results,
            feeder=Feeder(private.path, fed, fork is not None) if fed is not None else None,
            drain_limit=drain_limit,
            given=givens.here,
            fork=fork,
        )
    except BaseException:
        private.remove()
        if fork is not None:
            fork.close()
        raise


def _may_fork(steps: List[Step]) -> bool:
    """Whether the workers may be forks of this process."""
    return all(shares_import(given.thing) for given in steps) and forking.is_safe()


def _check_inline(steps: List[Step]) -> None:
    for given in steps:
        for key in ("timeout", "memory_limit"):
            if given.keys.get(key) is not None:
                raise ConfigError(
                    f'the step {given.name} has a {key}, but with mode="inline" nothing can end '
                    f'a call: leave it out, or use mode="threads"'
                )


def _steps(producer: Any, stages: List[Any], workers: Union[int, Sequence[int]]) -> List[Step]:
    """Returns the steps with their numbers of workers, each with a unique name."""
    counts = [workers] * len(stages) if isinstance(workers, int) else list(workers)
    if len(counts) != len(stages):
        raise ValueError(f"workers has {len(counts)} numbers for {len(stages)} stages")
    taken: List[str] = []
    made = []
    for thing, count in zip([producer, *stages], [1, *counts]):
        given = thing if isinstance(thing, Step) else step(thing)
        usual = 1 if is_singleton(given.thing) else count
        wanted = usual if given.workers is None else given.workers
        name = _free_name(given.name, taken)
        taken.append(name)
        made.append(dataclasses.replace(given, name=name, workers=wanted))
    first = made[0].thing
    if not (has_run(first) or callable(first) or _is_iterable(first)):
        raise TypeError(
            f"the producer is of type {type(first).__name__}; expected an iterable, a generator "
            f"function, or a class or an instance with a method run"
        )
    for given in made[1:]:
        if not (callable(given.thing) or has_run(given.thing)):
            kind = type(given.thing).__name__
            raise TypeError(
                f"the stage {given.name} is of type {kind}; expected a function, or a class "
                f"or an instance with a method run"
            )
    return made


def _configuration(
    steps: List[Step], givens: _Givens, results: bool
) -> Tuple[Dict[str, Any], Optional[Iterable[Any]]]:
    """Returns the configuration and the iterable whose items this process sends."""
    producer, *stages = steps
    fed = None
    told = has_run(producer.thing) and acknowledges(producer.thing)
    source = _entry(producer, "ToldSource" if told else "Source", {})
    if givens.inline or has_run(producer.thing) or callable(producer.thing):
        try:
            source["params"].update(givens.add(producer, "producer"))
        except NotCarried:
            if has_run(producer.thing):
                raise
            fed = producer.thing()
    else:
        fed = producer.thing
    rest = []
    for number, given in enumerate(stages):
        params = givens.add(given, f"stage-{number}")
        role = "stage" if results or number + 1 < len(stages) else "consumer"
        rest.append(_entry(given, "KeepingStep" if _keeps(given.thing, role) else "Step", params))
    if results or not rest:
        taken = [given.name for given in steps]
        rest.append(rewrite.deliver(_free_name("RESULTS", taken)))
    config = {
        "version": 1,
        "python": sys.executable,
        "pythonpath": [name_of_path(os.path.abspath(path)) for path in sys.path],
        "producer": source,
        "stagers": rest[:-1],
        "consumer": rest[-1],
    }
    return config, fed


def _entry(given: Step, cls: str, params: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "name": given.name,
        "module": Given.__module__,
        "class": cls,
        "params": params,
        "nb_process": given.workers,
        **given.keys,
    }


def _keeps(thing: Any, role: str) -> bool:
    cls = thing if isinstance(thing, type) else type(thing)
    return has_run(cls) and bool(describe(cls, role)["gathers"])


class _Givens:
    """The given objects, each carried under a file name to where it runs."""

    def __init__(self, private: PrivateDirectory, inline: bool, forked: bool) -> None:
        self._private, self.inline, self._forked = private, inline, forked
        #: The objects that run in this process or in forks of it, by name.
        self.here: Dict[str, Given] = {}

    def add(self, step: Step, name: str) -> Dict[str, Any]:
        """Adds what was given for a step and returns the parameters of its adapter.

        The journal compares them with those of an earlier run.
        """
        given = Given(step.thing, step.params)
        if self._forked:
            pickling.check(given, step.name)
        if self.inline or self._forked:
            self.here[name] = given
        else:
            pickling.dump(given, step.name, self._private.file(name))
        own = {key: repr(value) for key, value in sorted(step.params.items())}
        return {"given": name, "what": _described(step.thing), "params": own}


def _described(thing: Any) -> str:
    """Returns what a function, class or instance is, which is the same in another run."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"


def _is_iterable(thing: Any) -> bool:
    return hasattr(type(thing), "__iter__") or hasattr(type(thing), "__getitem__")


def _name_of(thing: Any) -> str:
    name = getattr(thing, "__name__", None) or type(thing).__name__
    plain = str(name).translate(_FORBIDDEN).strip("<>_")
    return plain[:_LONGEST_NAME] or "step"


def _free_name(name: str, taken: List[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
