"""Functions, classes and instances of the driver, brought to the workers.

What a module has goes by its name, as pickle does it. What exists in this session
only (a notebook's cell, a script, a lambda) goes whole, by cloudpickle; without it a
script is loaded anew by each worker, under another name than `__main__`. The code that
goes whole keeps the name of its file, and its source where no file has it, so that a
traceback in a worker shows the line.
"""

from __future__ import annotations

import functools
import io
import linecache
import os
import pickle
import sys
from types import CodeType
from typing import Any, Callable, Dict, Iterable, NamedTuple, Optional, Tuple, Union

from ..api.errors import NotCarried
from ..protocol.failures import summary

#: The name that a script has while a worker loads it.
_ANOTHER_NAME = "__drpipe_main__"
#: What pickles have that need the driver's script.
MAIN = b"__main__"


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
    return loads(parcel.data)


def is_loading() -> bool:
    """Whether a worker is loading its driver's script."""
    loaded = sys.modules.get(_ANOTHER_NAME)
    return loaded is not None and loaded is not sys.modules.get("__main__")


def dumps(value: Any) -> bytes:
    """A value, also one whose class exists in this session only.

    Raises:
        Exception: what pickle raises if it cannot be done.
    """
    try:
        data = pickle.dumps(value, 5)
        if MAIN not in data:
            return data
    except Exception:
        if _pickler() is None:
            raise
    return _whole(value) if _pickler() is not None else data


def loads(data: Union[bytes, bytearray], buffers: Iterable[Any] = ()) -> Any:
    """A value of the other side.

    Raises:
        Exception: what pickle raises if it cannot be done.
    """
    if _ANOTHER_NAME.encode() not in data:
        return pickle.loads(data, buffers=buffers)
    return _Unpickler(io.BytesIO(data), buffers=buffers).load()


class _Unpickler(pickle.Unpickler):
    """Knows a driver's script by the name that its workers have for it."""

    def find_class(self, module: str, name: str) -> Any:
        if module == _ANOTHER_NAME and module not in sys.modules:
            module = "__main__"
        return super().find_class(module, name)


def _parcel(thing: Any, name: str) -> _Parcel:
    data, problem = b"", ""
    try:
        data = pickle.dumps(thing, 5)
    except Exception as error:
        problem = summary(error)
    if data and MAIN not in data:
        return _Parcel(data)
    if _pickler() is not None:
        try:
            return _Parcel(_whole(thing))
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


def _whole(thing: Any) -> bytes:
    """With the code and the classes that other processes cannot import."""
    file = io.BytesIO()
    _pickler()(file, 5).dump(thing)
    return file.getvalue()


def _pickler() -> Any:
    """cloudpickle's, which would drop where code stands in a file; none without it."""
    try:
        import cloudpickle
    except ImportError:
        return None
    return _pickler_of(cloudpickle.CloudPickler)


@functools.lru_cache(maxsize=1)
def _pickler_of(base: Any) -> Any:
    class Pickler(base):  # type: ignore[misc]
        def __init__(self, file: Any, protocol: int) -> None:
            super().__init__(file, protocol)
            #: Where code stands: the same object for all that does, so that it goes once.
            self._places: Dict[str, _Place] = {}

        def reducer_override(self, thing: Any) -> Any:
            if type(thing) is not CodeType or CodeType not in self.dispatch_table:
                return super().reducer_override(thing)
            name = thing.co_filename
            place = self._places.setdefault(name, _place(name))
            return _code, (*self.dispatch_table[CodeType](thing), place)

    return Pickler


#: The name of a file, and its source if no worker can read that there.
_Place = Tuple[str, Optional[str]]


def _place(name: str) -> _Place:
    path = os.path.abspath(name)
    if os.path.isfile(path):
        return path, None
    return name, "".join(linecache.getlines(name)) or None


def _code(make: Callable[..., CodeType], parts: Tuple[Any, ...], place: _Place) -> CodeType:
    """Code in a worker."""
    name, source = place
    if source is not None and name not in linecache.cache:
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    return make(*parts).replace(co_filename=name)


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
    if _ANOTHER_NAME in sys.modules:
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
