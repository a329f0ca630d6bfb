"""Builds a step's instance from its module name, class name and parameters."""

from __future__ import annotations

import builtins
import sys
import typing
from enum import Enum
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union, get_args, get_origin

from ..api.stage import BASES
from ..protocol.failures import SetupError, nearest, summary
from . import legacy_imports, shadowing, traitlets_config

#: Constructor arguments of traitlets components that are not parameters.
OF_COMPONENTS = ("parent", "config", "configuration", "tool")
_MISSING: Any = object()


class Argument(NamedTuple):
    """An argument of a constructor."""

    name: str
    default: Any = _MISSING

    @property
    def is_required(self) -> bool:
        """Whether the argument has no default."""
        return self.default is _MISSING


def import_module(name: str) -> Any:
    """Imports a module.

    Raises:
        SetupError: if the import fails. Its cause is the original exception.
    """
    legacy_imports.install()
    try:
        return legacy_imports.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(missing + "."):
            hint = 'give its directory in the pipeline\'s "pythonpath", or install its package'
            raise SetupError("module", summary(error), hint, cause=error) from error
        hint = f"{name} needs it: {_quoted(sys.executable)} -m pip install {missing.split('.')[0]}"
        raise SetupError("import", summary(error), hint, cause=error) from error
    except BaseException as error:
        hint = shadowing.why(shadowing.loaded()) or f"{name} fails"
        raise SetupError("import", summary(error), hint, cause=error) from error


def find_class(module: Any, name: str) -> Any:
    """Returns the class of a module that has this name.

    Raises:
        SetupError: if no class of this name can be a step.
    """
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, type):
        if callable(getattr(found, "run", None)) or only_iterates(found):
            return found
        problem, hint = f"{name} has no method run", "a step is a class with a method run"
    else:
        home = f"the module {module.__name__}"
        is_there = found is not None
        problem = f"{name} in {home} is not a class" if is_there else f"{home} has no class {name}"
        hint = ""
    known = [cls.__name__ for cls in classes_of(module)]
    near = nearest(name, known)
    if not hint:
        others = f"it has {', '.join(known)}" if known else "it has no class with a method run"
        hint = f"did you mean {near!r}?" if near else others
    raise SetupError("class", problem, hint, known)


def only_iterates(cls: Any) -> bool:
    """Whether a class has no `run`, but its instances are iterable.

    Classes that read events from files are an example. Such a class may be a producer.
    """
    return not callable(getattr(cls, "run", None)) and callable(getattr(cls, "__iter__", None))


def classes_of(module: Any) -> List[type]:
    """Returns the classes of a module or its submodules that could be steps."""
    inside = (module.__name__, module.__name__ + ".")
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and not name.startswith("_")
        and (value.__module__ == inside[0] or value.__module__.startswith(inside[1]))
        and value not in BASES
        and callable(getattr(value, "run", None))
    ]


def arguments_of(cls: Any) -> List[Argument]:
    """Returns the named arguments of the constructor, without self, *args and **kwargs."""
    init = cls.__init__
    code = getattr(init, "__code__", None)
    if code is None or hasattr(init, "__wrapped__"):
        return _inspected(cls) if init is not object.__init__ else []
    positional = code.co_varnames[: code.co_argcount]
    defaults = init.__defaults__ or ()
    without = len(positional) - len(defaults)
    found = [
        Argument(name, defaults[index - without] if index >= without else _MISSING)
        for index, name in enumerate(positional)
    ]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    by_name = init.__kwdefaults__ or {}
    return found[1:] + [Argument(name, by_name.get(name, _MISSING)) for name in keywords]


def _inspected(cls: Any) -> List[Argument]:
    import inspect

    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        Argument(p.name, _MISSING if p.default is p.empty else p.default)
        for p in parameters
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def is_traits_class(cls: Any) -> bool:
    """Whether a class has traits."""
    traitlets = sys.modules.get("traitlets")
    return traitlets is not None and issubclass(cls, traitlets.HasTraits)


def make(
    cls: Any, params: Dict[str, Any], whole: Optional[traitlets_config.Whole] = None
) -> Tuple[Any, Dict[str, Any]]:
    """Creates an instance.

    Args:
        cls: the class.
        params: the step's parameters.
        whole: the configuration, for classes based on traitlets.

    Returns:
        The instance, and the parameters that `set_params` must set.

    Raises:
        SetupError: if a parameter is missing or traitlets refuses the configuration.
        Exception: what the constructor raises.
    """
    rest = dict(params)
    has_traits = is_traits_class(cls)
    arguments = arguments_of(cls)
    given: Dict[str, Any] = {}
    config = None
    if traitlets_config.is_configurable(cls):
        config = traitlets_config.configuration(whole or {}, cls, params)
        names = [argument.name for argument in arguments]
        given = traitlets_config.arguments(names, config, takes_anything(cls))
        rest = traitlets_config.not_configured(cls, params)
    for argument in arguments:
        name = argument.name
        if name in given:
            continue
        if name in params and argument.is_required:
            rest.setdefault(name, params[name])
        if name in rest and (argument.is_required or not has_traits):
            given[name] = as_declared(cls, name, rest.pop(name))
        elif argument.is_required and name in OF_COMPONENTS:
            given[name] = None
        elif argument.is_required:
            raise SetupError(
                "parameters",
                f'the parameter "{name}" of {cls.__name__} is missing',
                'give it in the step\'s "params"',
            )
    if takes_anything(cls) and not has_traits:
        # The constructor may ignore them, so `set_params` sets them, too.
        given.update(rest)
    taken = any(value is config for value in given.values()) or "parent" in given
    try:
        instance = cls(**given)
    except Exception as error:
        if config is None or type(error).__name__ != "TraitError":
            raise
        problem = f"the configuration of {cls.__name__} is refused: {summary(error)}"
        raise SetupError("parameters", problem, cause=error) from error
    if config is not None and not taken:
        # The constructor did not take the configuration, so set the instance's own traits.
        instance.config = config
    return instance, rest


def takes_anything(cls: Any) -> bool:
    """Whether the constructor has **kwargs."""
    code = getattr(cls.__init__, "__code__", None)
    return code is not None and bool(code.co_flags & 0x08)


def set_params(instance: Any, params: Dict[str, Any]) -> None:
    """Sets parameters as attributes.

    Raises:
        SetupError: naming the parameter that is refused.
    """
    cls = type(instance)
    for name, value in params.items():
        try:
            setattr(instance, name, as_declared(cls, name, value))
        except Exception as error:
            problem = f'the parameter "{name}" of {cls.__name__} is refused: {summary(error)}'
            raise SetupError("parameters", problem, cause=error) from error


def as_declared(cls: Any, name: str, value: Any) -> Any:
    """Converts a JSON value to the declared type of a parameter if JSON lacks that type.

    An integer becomes a float, a string a path, and the value of an enum's member that member.
    """
    kind = type(value)
    if kind is not int and kind is not str:
        return value
    wanted = _kinds(annotation_of(cls, name))
    if kind is int:
        value = float(value) if float in wanted and int not in wanted else value
    elif str not in wanted and (path := _path_type(wanted)) is not None:
        return path(value)
    for one in wanted:
        if _is(Enum, one) and not isinstance(value, Enum):
            return one(value)
    return value


def _is(base: type, kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)


def annotation_of(cls: Any, name: str) -> Any:
    """Returns the annotation of a constructor argument or, if there is none, of an attribute."""
    own = getattr(cls.__init__, "__annotations__", {})
    if name in own:
        return resolved(own[name], cls.__init__.__module__)
    for base in cls.__mro__:
        # A class without annotations returns those of its base, which are the same.
        annotations = getattr(base, "__annotations__", {})
        if name in annotations:
            return resolved(annotations[name], base.__module__)
    return None


def resolved(annotation: Any, module: str) -> Any:
    """Evaluates an annotation in its module. Returns Any if it uses names that are undefined."""
    if not isinstance(annotation, str):
        return annotation
    names = vars(sys.modules.get(module, builtins))
    try:
        return eval(annotation, {**vars(typing), **names})
    except Exception:
        # Some names are imported only for the type checker.
        return Any


def _kinds(annotation: Any) -> Tuple[Any, ...]:
    """Returns the classes that an annotation names."""
    if get_origin(annotation) is Union or type(annotation).__name__ == "UnionType":
        return get_args(annotation)
    return (annotation,)


def has_own(instance: Any, name: str) -> bool:
    """Whether an instance or its class has an attribute not defined by drpipe's base classes."""
    if name in getattr(instance, "__dict__", ()):
        return True
    return any(name in vars(cls) for cls in type(instance).__mro__ if cls not in BASES)


def set_quietly(instance: Any, name: str, value: Any) -> None:
    """Sets an attribute if the instance allows it."""
    import contextlib

    with contextlib.suppress(Exception):
        setattr(instance, name, value)


def prepare(
    instance: Any, step: str, connections: List[str], log: Any, *, send: Any, set_priority: Any
) -> None:
    """Gives an instance the attributes that `api.stage` lists."""
    own = {"name": step, "log": log, "send": send, "set_priority": set_priority}
    for name, value in own.items():
        if not has_own(instance, name):
            set_quietly(instance, name, value)
    if only_iterates(type(instance)):
        set_quietly(instance, "run", lambda: iter(instance))
        close = getattr(instance, "close", None)
        if close is not None and not hasattr(instance, "finish"):
            set_quietly(instance, "finish", close)
    set_quietly(instance, "connections", connections)
    set_quietly(instance, "send_msg", send)


def build(
    module: str,
    name: str,
    params: Optional[Dict[str, Any]],
    *,
    step: str,
    connections: List[str],
    send: Any,
    set_priority: Any,
    log: Any,
    whole: Optional[traitlets_config.Whole] = None,
) -> Any:
    """Builds a step's instance without calling its `init`.

    Args:
        module: the name of the module.
        name: the name of the class.
        params: the step's parameters.
        step: the step's name.
        connections: the names of the next steps.
        send: the function that the instance gets as `send_msg`.
        set_priority: the function that the instance gets under this name.
        log: the step's logger.
        whole: the configuration, for classes based on traitlets.

    Raises:
        SetupError: if the module, the class or a parameter is wrong.
        Exception: what the constructor raises.
    """
    cls = find_class(import_module(module), name)
    instance, rest = make(cls, params or {}, whole)
    prepare(instance, step, connections, log, send=send, set_priority=set_priority)
    set_params(instance, rest)
    return instance


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _path_type(wanted: Any) -> Any:
    """Returns the type of paths, if one is wanted."""
    # A class that wants one has imported pathlib; importing it here would cost time.
    pathlib = sys.modules.get("pathlib")
    if pathlib is None or not any(_is(pathlib.PurePath, one) for one in wanted):
        return None
    return pathlib.Path
