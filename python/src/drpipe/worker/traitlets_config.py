"""Passes the configuration to classes based on traitlets.

Such a class takes the whole configuration and finds the sections for itself and its helpers.
"""

from __future__ import annotations

import enum
import json
import sys
import warnings
from typing import Any, Collection, Dict, Iterator, List, Set, Tuple

#: The whole configuration as the program sends it: the sections of classes, the rest of the
#: file, and the command-line settings for classes.
Whole = Dict[str, Any]
#: The parents that `parent_with` has created.
_parents: List[Any] = []


def is_configurable(cls: Any) -> bool:
    """Whether a class takes a traitlets configuration."""
    base = _configurable()
    return base is not None and isinstance(cls, type) and issubclass(cls, base)


def _configurable() -> Any:
    """Returns the base class, or None if it is not imported, so no class derives from it."""
    return getattr(sys.modules.get("traitlets.config.configurable"), "Configurable", None)


def configuration(whole: Whole, cls: Any, params: Dict[str, Any]) -> Any:
    """Returns the configuration in the form that traitlets uses.

    The step's parameters are merged into the section of its class.
    """
    from traitlets.config import Config

    config = Config({**whole.get("rest", {}), **whole.get("sections", {})})
    for path, texts in _by_path(whole.get("settings", [])).items():
        *names, key = path.split(".")
        section = config
        for name in names:
            if not isinstance(section.get(name), Config):
                section[name] = Config()
            section = section[name]
        section[key] = _deferred(texts)
    own = config.get(cls.__name__)
    if not isinstance(own, Config):
        own = config[cls.__name__] = Config()
    others = not_configured(cls, params)
    own.merge(Config({name: value for name, value in params.items() if name not in others}))
    return config


def _by_path(settings: List[Any]) -> Dict[str, List[str]]:
    texts: Dict[str, List[str]] = {}
    for path, text in settings:
        texts.setdefault(path, []).append(text)
    return texts


def _deferred(texts: List[str]) -> Any:
    """Returns a setting for its trait to parse: a list parses all texts, other traits the last."""
    try:
        from traitlets.config.loader import DeferredConfigString
    except ImportError:
        # traitlets before version 5 has no deferred values.
        try:
            return json.loads(texts[-1])
        except ValueError:
            return texts[-1]

    class Said(DeferredConfigString):
        def get_value(self, trait: Any) -> Any:
            if not hasattr(trait, "from_string_list"):
                return super().get_value(trait)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                try:
                    return trait.from_string_list(texts)
                except Exception:
                    # The configuration check reports what is wrong.
                    return str(self)

    return Said(texts[-1])


def parent_with(config: Any) -> Any:
    """Returns a parent for a class whose constructor takes a parent but no configuration."""
    from traitlets.config import LoggingConfigurable

    parent = LoggingConfigurable(config=config)
    # A child may hold only a weak reference to its parent.
    _parents.append(parent)
    return parent


def is_section(name: str) -> bool:
    """Whether a key of a section is the name of a section inside it."""
    return name[:1].isupper()


def not_configured(cls: Any, params: Dict[str, Any]) -> Dict[str, Any]:
    """Returns the parameters that an instance does not take from its configuration."""
    traits = cls.class_traits(config=True) if is_section(cls.__name__) else {}
    return {
        name: value
        for name, value in params.items()
        if name not in traits and not (is_section(name) and isinstance(value, dict))
    }


def sections() -> Dict[str, List[str]]:
    """Returns the loaded classes, each with the parameters that its section may have: its own,
    and those of classes derived from it."""
    found: Dict[str, Set[str]] = {}
    for cls in _all_configurables():
        names = cls.class_traits(config=True)
        for base in cls.__mro__:
            if is_configurable(base) and not base.__module__.startswith("traitlets."):
                found.setdefault(base.__name__, set()).update(names)
    return {name: sorted(names) for name, names in sorted(found.items())}


def _all_configurables() -> Iterator[Any]:
    base = _configurable()
    rest = [base] if base is not None else []
    seen = set()
    while rest:
        cls = rest.pop()
        if cls not in seen:
            seen.add(cls)
            rest.extend(cls.__subclasses__())
            yield cls


def read(cls: Any, settings: List[Tuple[str, str]]) -> List[Any]:
    """Returns the command-line settings as JSON, parsed by their traits.

    A setting that names no trait yields None. Several settings of a list form one list.
    """
    return [_read(cls, settings[: index + 1]) for index in range(len(settings))]


def _read(cls: Any, settings: List[Tuple[str, str]]) -> Any:
    path, text = settings[-1]
    *names, param = path.split(".")
    if names:
        cls = next((one for one in _all_configurables() if one.__name__ == names[-1]), None)
    trait = cls.class_traits().get(param) if cls is not None else None
    if trait is None:
        return None
    value = _deferred([said for other, said in settings if other == path])
    return _as_json(value.get_value(trait) if hasattr(value, "get_value") else value, text)


def refused(whole: Whole, own: Collection[str]) -> List[Tuple[str, str]]:
    """Returns the path of each helper's value that its trait refuses, and the reason.

    Args:
        whole: the configuration.
        own: the classes of steps, whose values are checked as parameters.
    """
    found: List[Tuple[str, str]] = []
    for name, section in whole.get("sections", {}).items():
        _refuse_in([name], section, own, found)
    for path, texts in _by_path(whole.get("settings", [])).items():
        *names, key = path.split(".")
        if names[1:] or names[0] not in own:
            trait = _trait(names[-1], key)
            said = _deferred(texts)
            if trait is not None and hasattr(said, "get_value"):
                _refuse(path, trait, said.get_value(trait), found)
    return found


def _refuse_in(
    path: List[str], section: Any, own: Collection[str], found: List[Tuple[str, str]]
) -> None:
    for key, value in section.items() if isinstance(section, dict) else ():
        if is_section(key) and isinstance(value, dict):
            _refuse_in([*path, key], value, own, found)
        elif path[1:] or path[0] not in own:
            trait = _trait(path[-1], key)
            if trait is not None:
                _refuse(".".join([*path, key]), trait, value, found)


def _trait(name: str, param: str) -> Any:
    """Returns a trait, or None unless exactly one loaded class has the name."""
    named = [cls for cls in _all_configurables() if cls.__name__ == name]
    return named[0].class_traits(config=True).get(param) if len(named) == 1 else None


def _refuse(path: str, trait: Any, value: Any, found: List[Tuple[str, str]]) -> None:
    from traitlets import HasTraits, TraitError

    # A path is checked when the run starts.
    is_path = any(cls.__name__ == "Path" for cls in type(trait).__mro__)
    if is_path or (value is None and trait.allow_none) or not hasattr(trait, "validate"):
        return
    try:
        trait.validate(HasTraits(), value)
    except TraitError:
        found.append((path, f"found {value!r}; expected {trait.info()}"))
    except Exception:
        # The trait needs its instance to validate; a worker reports what is wrong.
        return


def _as_json(value: Any, text: str) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return text


def arguments(names: List[str], config: Any, open_ended: bool) -> Dict[str, Any]:
    """Returns the arguments that pass the configuration to a constructor, if it accepts
    one.

    Args:
        names: the names of the constructor's arguments.
        config: the configuration.
        open_ended: whether the constructor has **kwargs.
    """
    for name in ("config", "configuration"):
        if name in names:
            return {name: config}
    if open_ended:
        return {"config": config}
    if "parent" in names:
        return {"parent": parent_with(config)}
    return {}
