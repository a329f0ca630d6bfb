"""Answers the program's questions about classes: which exist, and which parameters they take."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, List, Optional

from ..api.stage import (
    BASES,
    Consumer,
    Producer,
    Stage,
    acknowledges,
    is_singleton,
    shares_import,
)
from ..protocol import failures
from ..protocol.failures import SetupError
from ..protocol.path_names import name_of_path, path_of_name
from . import prepared, shadowing, surroundings, traitlets_config
from .build import (
    classes_of,
    find_class,
    import_module,
    is_traits_class,
    make,
    only_iterates,
    prepare,
    set_params,
)

#: The distributions that a worker needs, each mapped to its module.
_NEEDED = {"msgpack": "msgpack"}
#: How often to check that the program is still alive, in seconds.
_LOOK = 0.2
_KINDS = {"producer": Producer, "stage": Stage, "consumer": Consumer}


def main() -> None:
    """Reads a request from standard input and writes the answer to standard output.

    The process may then stay and become a worker.
    """
    # Modules may print during import: send that output to standard error.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    leave = _end_with(os.getppid())
    line = prepared.Line.of_standard_input()
    request = json.loads(line.read())
    surroundings.set_up()
    paths = [path_of_name(name) for name in request.get("paths", [])]
    # Check before this process imports modules from these directories.
    trouble = shadowing.trouble(paths)
    # A worker would have imported different modules by the time it finds such files.
    may_stay = request.get("may_stay") and not shadowing.hiding(paths)
    sys.path[1:1] = paths
    candidate = prepared.Candidate() if may_stay else None
    found = answer(request, trouble)
    found["stays"] = stays = candidate is not None and candidate.may_stay(request, found)
    text = json.dumps(found, ensure_ascii=False)
    _compile_once()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    # Messages may contain file names that are not UTF-8.
    with open(answer_to, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    if stays and candidate is not None:
        candidate.wait(line, leave)
    _end_children()
    # Skip the interpreter's shutdown: the modules have done no work.
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(0)


def _end_with(program: int) -> Callable[[], None]:
    """Starts a thread that ends this process when the program has died.

    Returns:
        A function that ends the thread.
    """
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK):
            if os.getppid() != program:
                _end_children()
                os._exit(1)

    thread = threading.Thread(target=watch, name="program", daemon=True)
    thread.start()

    def leave() -> None:
        is_over.set()
        thread.join()

    return leave


def _end_children() -> None:
    """Kills the processes that modules started during their import."""
    for child in prepared.children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)


def _compile_once() -> None:
    """Compiles this package, even if Python is configured not to write bytecode.

    Workers then start in half the time.
    """
    if not os.path.exists(importlib.util.cache_from_source(__file__)):
        import compileall

        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        compileall.compile_dir(package, quiet=2)


def answer(request: Dict[str, Any], trouble: str = "") -> Dict[str, Any]:
    """Returns the answer to a request.

    Args:
        request: the request.
        trouble: why no worker can start; empty if one can.
    """
    missing = [name for name, module in _NEEDED.items() if not importlib.util.find_spec(module)]
    if "list" in request:
        classes = _offers(request["list"])
    elif trouble:
        refusal = _refusal(SetupError("module", trouble))
        classes = [{"error": refusal} for _ in request.get("classes", [])]
    else:
        classes = [_entry(wanted) for wanted in request.get("classes", [])]
    own = [wanted["class"] for wanted in request.get("classes", [])]
    version = ".".join(str(part) for part in sys.version_info[:3])
    return {
        "python": version,
        "executable": name_of_path(sys.executable),
        "missing": missing,
        "classes": classes,
        "sections": traitlets_config.sections(),
        "refused": traitlets_config.refused(request.get("configuration", {}), own),
        "odd": [shadowing.hides(file) for file in shadowing.loaded()],
    }


def _entry(wanted: Dict[str, Any]) -> Dict[str, Any]:
    try:
        cls = find_class(import_module(wanted["module"]), wanted["class"])
    except SetupError as error:
        return {"error": _refusal(error)}
    if not shares_import(cls):
        prepared.spoil()
    facts = describe(cls, wanted.get("role", "stage"))
    settings = wanted.get("settings", [])
    if is_traits_class(cls):
        facts["settings"] = traitlets_config.read(cls, settings)
    facts["configurable"] = traitlets_config.is_configurable(cls)
    facts["invalid"] = _invalid(cls, wanted, facts["schema"])
    return {"ok": facts}


def _invalid(cls: Any, wanted: Dict[str, Any], schema: Dict[str, Any]) -> Optional[str]:
    """Returns the message of the exception that a class's own `validate` raises, if it does."""
    if not issubclass(cls, BASES[0]) or cls.validate is BASES[0].validate:
        return None
    params = dict(wanted.get("params") or {})
    for name, text in wanted.get("settings", []):
        params[name] = _value_of(text, schema["properties"].get(name, {}))
    # The constructor may have any side effect.
    prepared.spoil()
    try:
        instance, rest = make(cls, params)
        prepare(instance, wanted["step"], wanted["next_steps"], None, send=None, set_priority=None)
        set_params(instance, rest)
    except Exception:
        # The schema check reports wrong parameters; a worker reports everything else.
        return None
    try:
        instance.validate()
    except Exception as error:
        return str(error) or failures.summary(error)
    return None


def _value_of(text: str, schema: Dict[str, Any]) -> Any:
    if schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _offers(module: str) -> List[Dict[str, Any]]:
    try:
        found = classes_of(import_module(module))
    except SetupError as error:
        return [{"name": module, "error": _refusal(error)}]
    return [{"name": cls.__name__, "ok": describe(cls)} for cls in found]


def _refusal(error: SetupError) -> Dict[str, Any]:
    cause = error.__cause__
    return {
        "what": error.what,
        "message": error.message,
        "hint": error.hint,
        "known": error.known,
        "traceback": failures.traceback_of(cause) if cause is not None else "",
    }


def describe(cls: Any, role: str = "stage") -> Dict[str, Any]:
    """Returns what the configuration check needs to know about a class in a role."""
    from .schema import schema_of
    from .statefulness import is_stateful

    kinds = [kind for kind, base in _KINDS.items() if issubclass(cls, base)]
    if only_iterates(cls):
        kinds = ["producer"]
    schema = schema_of(cls)
    return {
        "kind": kinds[0] if kinds else None,
        "doc": _first_line(cls),
        "single": is_singleton(cls),
        "acknowledges": acknowledges(cls),
        "gathers": is_stateful(cls, role, schema["properties"]),
        "schema": schema,
    }


def _first_line(cls: Any) -> str:
    lines = (cls.__dict__.get("__doc__") or "").strip().splitlines()
    first = lines[0].strip() if lines else ""
    # Python gives a dataclass without a docstring its signature instead.
    return "" if first.startswith(f"{cls.__name__}(") and first.endswith(")") else first
