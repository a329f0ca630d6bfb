"""Pickles of objects whose code exists only in one session: in a script or a notebook's cell.

cloudpickle, if it is installed, carries such code completely. Each piece of code keeps the
name of its file, and its source if no file contains it, so that a traceback in a worker
shows the line.
"""

from __future__ import annotations

import functools
import io
import linecache
import os
import pickle
import sys
from types import CodeType, FunctionType
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

#: The name of the driver's script in the workers that load it. The name differs from
#: `__main__`, so that the script does not start its run again.
SCRIPT = "__drpipe_main__"
#: Occurs in every pickle that refers to the driver's script.
MAIN = b"__main__"
_PROTOCOL = 5

#: Not empty in a fork of the driver, whose main module is the driver's.
_shared: List[bool] = []


def share_main() -> None:
    """Records that this process is a fork of the driver: names of the main module suffice."""
    _shared.append(True)


def definitions() -> Dict[str, Any]:
    """Returns the functions and classes that the main module has defined."""
    main = sys.modules.get("__main__")
    return {
        name: thing
        for name, thing in list(vars(main).items() if main else ())
        if isinstance(thing, (FunctionType, type)) and thing.__module__ == "__main__"
    }


def dumps(value: Any) -> bytes:
    """Pickles a value, with the code of its class if no module defines the class.

    Raises:
        Exception: the error that pickle raises for a value that it cannot pickle.
    """
    try:
        data = pickle.dumps(value, _PROTOCOL)
        if _shared or MAIN not in data:
            return data
    except Exception:
        if not is_available():
            raise
    return dumps_with_code(value) if is_available() else data


def loads(data: Union[bytes, bytearray], buffers: Iterable[Any] = ()) -> Any:
    """Loads a pickle that a driver or one of its workers made.

    Args:
        data: the pickle.
        buffers: the memory that was pickled out of band, in order.

    Raises:
        Exception: the error that pickle raises for a pickle that it cannot load.
    """
    if SCRIPT.encode() not in data:
        return pickle.loads(data, buffers=buffers)
    return _Unpickler(io.BytesIO(data), buffers=buffers).load()


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds the classes of the driver's script in the driver, too."""

    def find_class(self, module: str, name: str) -> Any:
        if module == SCRIPT and module not in sys.modules:
            module = "__main__"
        return super().find_class(module, name)


def is_available() -> bool:
    """Whether code that no module defines can be pickled."""
    return _pickler() is not None


def dumps_with_code(value: Any) -> bytes:
    """Pickles a value with all code and classes that other processes cannot import.

    Raises:
        Exception: the error that cloudpickle raises for a value that it cannot pickle.
    """
    file = io.BytesIO()
    _pickler()(file, _PROTOCOL).dump(value)
    return file.getvalue()


def _pickler() -> Any:
    """Returns cloudpickle's pickler, extended to keep code's files, or None without cloudpickle."""
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
            #: One object for each file, so that pickle writes it once.
            self._files: Dict[str, _SourceFile] = {}

        def reducer_override(self, thing: Any) -> Any:
            if type(thing) is not CodeType or CodeType not in self.dispatch_table:
                return super().reducer_override(thing)
            name = thing.co_filename
            file = self._files.setdefault(name, _source_file(name))
            return _make_code, (*self.dispatch_table[CodeType](thing), file)

    return Pickler


#: The name of a file, and its source if no worker can read the file.
_SourceFile = Tuple[str, Optional[str]]


def _source_file(name: str) -> _SourceFile:
    path = os.path.abspath(name)
    if os.path.isfile(path):
        return path, None
    return name, "".join(linecache.getlines(name)) or None


def _make_code(
    make: Callable[..., CodeType], parts: Tuple[Any, ...], file: _SourceFile
) -> CodeType:
    """Creates code in a worker and makes its source available to tracebacks."""
    name, source = file
    if source is not None and name not in linecache.cache:
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    return make(*parts).replace(co_filename=name)
