"""Pipelines without a configuration file: for a script or a notebook."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
import tempfile
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from . import carry, program, rewrite
from .adapters import Given, has_run
from .describe import describe
from .errors import NotCarried
from .exchange import Feeder, Results
from .pipeline import Path, command, driver_environment, remove, write_json
from .report import Report
from .running import Run

#: What of a step's configuration `step` can set.
_KEYS = (
    *("queue_limit", "queue_bytes", "on_error", "retries", "backoff"),
    *("timeout", "memory_limit"),
)
#: What no step's name may have.
_FORBIDDEN = str.maketrans(dict.fromkeys("., =/\\\t\n", "_"))
#: A name is not longer, so that a number fits behind it.
_LONGEST_NAME = 60


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of `run` with settings of its own. Made by `step`."""

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
    """A function, class or instance with settings of its own for `run`.

    Args:
        thing: what `run` would take in its place.
        name: the step's name, in reports and the log.
        workers: how many processes work on it, or {"min": 1, "max": 4}.
        params: the parameters of a class.
        keys: of a step in the configuration: queue_limit, queue_bytes, on_error, retries,
            backoff, timeout, memory_limit.

    Raises:
        TypeError: if there is no such key.

    Example:
        >>> drpipe.step(clean, workers=4, retries=2, timeout=10)  # doctest: +SKIP
    """
    for key in keys:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(_KEYS)}"
            raise TypeError(f"a step has no setting {key!r}; {hint}")
    if params and not isinstance(thing, type):
        raise TypeError(f"params are for a class, but {_name_of(thing)} is none")
    return Step(thing, name or _name_of(thing), workers, dict(params or {}), keys)


def run(
    producer: Any,
    *stages: Any,
    consumer: Any = None,
    workers: Union[int, Sequence[int]] = 1,
    results: bool = True,
    mode: str = "threads",
    quarantine: Optional[Path] = None,
    summary: Optional[Path] = None,
    drain_limit: Optional[float] = None,
) -> Report:
    """Runs what a producer makes through stages, each on processes of its own.

    Values travel as in every pipeline: plain Python values and numpy arrays. None is not
    sent. What fails is kept in quarantine and is in the report; see `Report.check`.

    Args:
        producer: an iterable, a generator function, or a class or instance with a
            `run` that yields. An iterator is advanced here, as the pipeline has room; all
            else goes to a worker as a whole.
        stages: functions of one value, or classes or instances with `run`, or one of these
            in a `step` with settings of its own. An instance is copied to each worker.
        consumer: the same, as the last one.
        workers: the number of processes of each stage, or one number for each.
        results: whether what the last one returns is collected in `Report.results`, in no
            promised order. Otherwise it is dropped.
        mode: "threads", or "sequential": one message after the other.
        quarantine: keeps failed inputs here, instead of in "quarantine".
        summary: writes the report to this file as JSON.
        drain_limit: how long a cancelled run may finish what it has begun, in seconds.

    What stands in a script or a notebook's cell goes to the workers by cloudpickle. Without
    it a script is loaded again by each worker, so what it does must stand below
    `if __name__ == "__main__":`.

    Raises:
        ConfigError: if a setting is wrong.
        NotCarried: if something cannot be given to workers.
        RunError: if the run could not be started, or had to be given up.
        KeyboardInterrupt: after an interrupt, when the run has ended.

    Example:
        >>> import math
        >>> report = drpipe.run(range(100), math.sqrt, workers=2)  # doctest: +SKIP
        >>> len(report.results)  # doctest: +SKIP
        100
    """
    if carry.is_loading():
        raise RuntimeError(
            "a worker is loading this script, which starts a run: put what it does below "
            'if __name__ == "__main__":'
        )
    steps = _steps(producer, [*stages, *([] if consumer is None else [consumer])], workers)
    options = {
        "--mode": mode,
        "--quarantine": quarantine,
        "--summary": summary,
        "--drain-limit": drain_limit,
    }
    with _start(steps, results, options) as started:
        return started.wait()


def _start(steps: List[Step], results: bool, options: Dict[str, Any]) -> Run:
    found = program.find()
    private = tempfile.mkdtemp(prefix="drpipe-py-")
    try:
        config, fed = _configuration(steps, private, results)
        file = os.path.join(private, "pipeline.json")
        write_json(file, config)
        return Run(
            command(found, file, None, options, []),
            driver_environment(private),
            results=Results(private) if results else None,
            feeder=Feeder(private, fed) if fed is not None else None,
            clean_up=lambda: remove(private),
        )
    except BaseException:
        remove(private)
        raise


def _steps(producer: Any, stages: List[Any], workers: Union[int, Sequence[int]]) -> List[Step]:
    """All with their numbers of workers, and each with another name."""
    counts = [workers] * len(stages) if isinstance(workers, int) else list(workers)
    if len(counts) != len(stages):
        raise ValueError(f"workers has {len(counts)} numbers for {len(stages)} stages")
    taken: List[str] = []
    made = []
    for thing, count in zip([producer, *stages], [1, *counts]):
        given = thing if isinstance(thing, Step) else step(thing)
        usual = 1 if getattr(given.thing, "single", False) is True else count
        wanted = usual if given.workers is None else given.workers
        name = _free_name(given.name, taken)
        taken.append(name)
        made.append(dataclasses.replace(given, name=name, workers=wanted))
    for given in made[1:]:
        if not (callable(given.thing) or has_run(given.thing)):
            kind = type(given.thing).__name__
            raise TypeError(
                f"the stage {given.name} is of type {kind}; expected a function, or a class "
                f"or an instance with a method run"
            )
    return made


def _configuration(
    steps: List[Step], private: str, results: bool
) -> Tuple[Dict[str, Any], Optional[Iterable[Any]]]:
    """The configuration, and the items that are to be sent from here."""
    producer, *stages = steps
    fed = None
    source = _entry(producer, "Source", "")
    if not _is_fed(producer.thing):
        source["params"]["file"] = "producer"
        try:
            carry.dump(_given(producer), producer.name, os.path.join(private, "producer"))
        except NotCarried:
            if has_run(producer.thing):
                raise
            fed = producer.thing() if callable(producer.thing) else producer.thing
    else:
        fed = producer.thing
    if fed is not None:
        source["params"]["file"] = ""
    rest = []
    for number, given in enumerate(stages):
        file = f"stage-{number}"
        carry.dump(_given(given), given.name, os.path.join(private, file))
        role = "stage" if results or number + 1 < len(stages) else "consumer"
        rest.append(_entry(given, "KeepingStep" if _keeps(given.thing, role) else "Step", file))
    if results or not rest:
        taken = [given.name for given in steps]
        rest.append(rewrite.deliver(_free_name("RESULTS", taken)))
    config = {
        "version": 1,
        "python": sys.executable,
        "pythonpath": [os.path.abspath(path) for path in sys.path],
        "producer": source,
        "stagers": rest[:-1],
        "consumer": rest[-1],
    }
    return config, fed


def _entry(given: Step, cls: str, file: str) -> Dict[str, Any]:
    return {
        "name": given.name,
        "module": "drpipe.adapters",
        "class": cls,
        "params": {"file": file},
        "nb_process": given.workers,
        **given.keys,
    }


def _keeps(thing: Any, role: str) -> bool:
    cls = thing if isinstance(thing, type) else type(thing)
    return has_run(cls) and bool(describe(cls, role)["gathers"])


def _given(given: Step) -> Given:
    return Given(given.thing, given.params)


def _is_fed(thing: Any) -> bool:
    """Whether the items are made here: an iterator cannot be copied."""
    return hasattr(thing, "__next__") and not has_run(thing)


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
