"""Files that carry functions, classes and instances of the driver to its workers.

Objects that a module defines are pickled by name, as usual. cloudpickle pickles objects that
exist only in this session together with their code. Without cloudpickle, each worker loads the
driver's script again under a name other than `__main__`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from typing import Any, Dict, NamedTuple, Optional

from ..api.errors import NotCarried
from ..protocol import session_pickles
from ..protocol.failures import summary
from ..protocol.session_pickles import MAIN, SCRIPT


class _PickleFile(NamedTuple):
    """The content of a file: a pickle, and what a worker must load before it."""

    data: bytes
    #: The path of the driver's script.
    script: Optional[str] = None
    #: The driver's main module, if it was started by `python -m`.
    module: Optional[str] = None


def dump(thing: Any, name: str, file: str) -> None:
    """Writes an object to a file for the workers.

    Args:
        thing: a function, class or instance.
        name: the name to use for it in messages.
        file: the path.

    Raises:
        NotCarried: if it cannot be pickled; the message says what to do.
    """
    content = _pickled(thing, name)
    with open(file, "wb") as out:
        pickle.dump(tuple(content), out)


def check(thing: Any, name: str) -> None:
    """Checks that an object could be given to any worker, also if forks of this process have it.

    Raises:
        NotCarried: as for `dump`.
    """
    with contextlib.suppress(Exception):
        data = pickle.dumps(thing, 5)
        if MAIN not in data or _main_module():
            return
    _pickled(thing, name)


def load(file: str) -> Any:
    """Loads what `dump` has written. Called in a worker."""
    with open(file, "rb") as stored:
        content = _PickleFile(*pickle.load(stored))
    if content.script is not None or content.module is not None:
        _load_script(content)
    return session_pickles.loads(content.data)


def is_loading() -> bool:
    """Whether this process is a worker that is loading its driver's script."""
    loaded = sys.modules.get(SCRIPT)
    return loaded is not None and loaded is not sys.modules.get("__main__")


def _pickled(thing: Any, name: str) -> _PickleFile:
    data, problem = b"", ""
    try:
        data = pickle.dumps(thing, 5)
    except Exception as error:
        problem = summary(error)
    if data and MAIN not in data:
        return _PickleFile(data)
    if session_pickles.is_available():
        try:
            return _PickleFile(session_pickles.dumps_with_code(thing))
        except Exception as error:
            raise NotCarried(f"{name} cannot be given to workers: {summary(error)}") from error
    main = _main_module() if data else {}
    if not main:
        why = problem or f"{name} exists only in this session"
        raise NotCarried(
            f"{name} cannot be given to workers: {why}; install a package that can "
            f"({sys.executable} -m pip install cloudpickle), or put it into a module"
        )
    return _PickleFile(data, **main)


def _main_module() -> Dict[str, str]:
    """Returns where a worker can load this program's main module, or an empty dict if nowhere."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name and spec.name != "__main__":
        return {"module": spec.name}
    file = getattr(main, "__file__", None)
    if file is not None and os.path.isfile(file):
        return {"script": os.path.abspath(file)}
    return {}


def _load_script(content: _PickleFile) -> None:
    """Loads the driver's script once."""
    if SCRIPT in sys.modules:
        return
    import runpy
    import types

    loaded = types.ModuleType(SCRIPT)
    sys.modules[SCRIPT] = loaded
    if content.module is not None:
        found = runpy.run_module(content.module, run_name=SCRIPT, alter_sys=True)
    else:
        assert content.script is not None
        found = runpy.run_path(content.script, run_name=SCRIPT)
    loaded.__dict__.update(found)
    sys.modules["__main__"] = loaded
