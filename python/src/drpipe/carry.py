"""Functions, classes and instances of the driver, brought to the workers.

What a module has goes by its name, as pickle does it. What exists in this session
only (a notebook's cell, a script, a lambda) goes whole, by cloudpickle; without it a
script is loaded anew by each worker, under another name than `__main__`.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, Dict, NamedTuple, Optional

from .errors import NotCarried
from .failures import summary

#: The name that a script has while a worker loads it.
_ANOTHER_NAME = "__drpipe_main__"
_MAIN = b"__main__"


class _Parcel(NamedTuple):
    """How something is brought to the workers."""

    data: bytes
    #: The script, or the module run by -m, that the worker must load before.
    script: Optional[str] = None
    module: Optional[str] = None


def dump(thing: Any, name: str, file: str) -> None:
    """Writes something to a file for the workers; `name` is what messages call it.

    Raises:
        NotCarried: with what to do.
    """
    parcel = _parcel(thing, name)
    with open(file, "wb") as out:
        pickle.dump(tuple(parcel), out)


def load(file: str) -> Any:
    """What was written, in a worker."""
    with open(file, "rb") as stored:
        parcel = _Parcel(*pickle.load(stored))
    if parcel.script is not None or parcel.module is not None:
        _load_main(parcel)
    return pickle.loads(parcel.data)


def is_loading() -> bool:
    """Whether a worker is loading its driver's script."""
    return sys.modules.get(_ANOTHER_NAME) is not None


def _parcel(thing: Any, name: str) -> _Parcel:
    data, problem = b"", ""
    try:
        data = pickle.dumps(thing, 5)
    except Exception as error:
        problem = summary(error)
    if data and _MAIN not in data:
        return _Parcel(data)
    try:
        import cloudpickle
    except ImportError:
        pass
    else:
        try:
            return _Parcel(cloudpickle.dumps(thing, 5))
        except Exception as error:
            raise NotCarried(f"{name} cannot be given to workers: {summary(error)}") from error
    main = _main() if data else {}
    if not main:
        why = problem or f"{name} exists in this session only"
        raise NotCarried(
            f"{name} cannot be given to workers: {why}; install what can do it "
            f"({sys.executable} -m pip install cloudpickle), or put it into a module"
        )
    return _Parcel(data, **main)


def _main() -> Dict[str, str]:
    """Where this program's main module can be loaded from; empty if nowhere."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and spec.name != "__main__":
        return {"module": spec.name}
    file = getattr(main, "__file__", None)
    if file is not None and os.path.isfile(file):
        return {"script": os.path.abspath(file)}
    return {}


def _load_main(parcel: _Parcel) -> None:
    """Loads the driver's script, unless it is there already."""
    if is_loading():
        return
    import runpy
    import types

    loaded = types.ModuleType(_ANOTHER_NAME)
    sys.modules[_ANOTHER_NAME] = loaded
    if parcel.module is not None:
        content = runpy.run_module(parcel.module, run_name=_ANOTHER_NAME, alter_sys=True)
    else:
        assert parcel.script is not None
        content = runpy.run_path(parcel.script, run_name=_ANOTHER_NAME)
    loaded.__dict__.update(content)
    sys.modules["__main__"] = loaded
