"""Describes the parameters of a class as a JSON Schema, using its annotations, traits,
attributes and constructor."""

from __future__ import annotations

import collections.abc
import enum
import json
import math
import os
from typing import Any, Dict, Literal, Set, Union, get_args, get_origin

from ..api.stage import BASES
from .build import OF_COMPONENTS, arguments_of, is_traits_class, resolved

_MISSING: Any = object()
#: Attributes that are not parameters: those that the worker sets, and those that describe the
#: class.
_RESERVED = frozenset(
    [
        *("connections", "log", "send", "send_msg", "set_priority", "writable_arrays"),
        *("singleton", "stateful", "single", "gathers"),
    ]
)
_SIMPLE = {int: "integer", float: "number", str: "string", bool: "boolean"}
_ARRAYS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
_OBJECTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
#: The types of simple traits, keyed by the name of one of their classes.
_TRAITS = {
    "Bool": "boolean",
    "Int": "integer",
    "Float": "number",
    "Unicode": "string",
    "ObjectName": "string",
    "Path": "string",
    "Dict": "object",
}


def schema_of(cls: Any) -> Dict[str, Any]:
    """Returns the schema of a class. The schema allows parameters that it does not name."""
    properties: Dict[str, Any] = {}
    required: Set[str] = set()
    if is_traits_class(cls):
        _add_traits(cls, properties)
    else:
        _add_attributes(cls, properties)
    _add_arguments(cls, properties, required)
    return {"type": "object", "properties": properties, "required": sorted(required)}


def _add_attributes(cls: Any, properties: Dict[str, Any]) -> None:
    for base in reversed(cls.__mro__):
        if base in BASES or base is object:
            continue
        annotated = getattr(base, "__annotations__", {})
        for name in filter(_is_parameter, annotated):
            if not _is_of_class(annotated[name]):
                hint = _of_hint(resolved(annotated[name], base.__module__))
                _with_default(properties, name, hint, vars(base).get(name, _MISSING))
        for name, value in vars(base).items():
            if _is_parameter(name) and name not in annotated and _is_plain(value):
                # A base class may declare the parameter, and this class only override its default.
                _with_default(properties, name, properties.get(name) or _of_value(value), value)


def _is_of_class(annotation: Any) -> bool:
    """Whether an annotation says that an attribute belongs to the class."""
    text = annotation if isinstance(annotation, str) else str(get_origin(annotation) or annotation)
    return text.startswith(("ClassVar", "typing.ClassVar"))


def _add_arguments(cls: Any, properties: Dict[str, Any], required: Set[str]) -> None:
    annotated = getattr(cls.__init__, "__annotations__", {})
    for argument in arguments_of(cls):
        name = argument.name
        if name.startswith("_") or name in OF_COMPONENTS:
            continue
        if argument.is_required:
            required.add(name)
        default = _MISSING if argument.is_required else argument.default
        if name in annotated:
            found = _of_hint(resolved(annotated[name], cls.__init__.__module__))
        else:
            found = _of_value(default)
        before = properties.pop(name, {})
        _with_default(properties, name, {**before, **found}, default)


def _add_traits(cls: Any, properties: Dict[str, Any]) -> None:
    for name, trait in sorted(cls.class_traits().items()):
        home = getattr(trait, "this_class", None)
        is_own = home is not None and not home.__module__.startswith("traitlets.")
        if not (_is_parameter(name) and (trait.metadata.get("config") or is_own)):
            continue
        if name in OF_COMPONENTS:
            continue
        schema = _of_trait(trait)
        if trait.help:
            schema["description"] = str(trait.help)
        try:
            default = trait.default()
        except Exception:
            default = _MISSING
        _with_default(properties, name, schema, default)


def _is_parameter(name: str) -> bool:
    return not name.startswith("_") and name not in _RESERVED


def _is_plain(value: Any) -> bool:
    """Whether a class attribute is a value, rather than a method or a descriptor."""
    return not (callable(value) or hasattr(value, "__get__"))


def _with_default(properties: Dict[str, Any], name: str, schema: Any, default: Any) -> None:
    if _is_json(default):
        schema["default"] = default
    properties[name] = schema


def _is_json(value: Any) -> bool:
    if value is _MISSING:
        return False
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _of_value(value: Any) -> Dict[str, Any]:
    """Returns the schema that a default implies. A number need not be an integer."""
    if isinstance(value, bool):
        return {"type": "boolean"}
    if isinstance(value, (int, float)):
        return {"type": "number"}
    return {"type": "string"} if isinstance(value, str) else {}


def _of_hint(hint: Any) -> Dict[str, Any]:
    """Returns the schema of an annotation."""
    origin = get_origin(hint) or hint
    arguments = get_args(hint)
    if origin in _SIMPLE:
        return {"type": _SIMPLE[origin]}
    if origin is Union or type(hint).__name__ == "UnionType":
        return _of_union(arguments)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in _ARRAYS:
        return _array(origin, arguments)
    if origin in _OBJECTS:
        return {"type": "object"}
    if get_origin(hint) is None and isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return {"enum": [member.value for member in hint if _is_json(member.value)]}
        if issubclass(hint, os.PathLike):
            return {"type": "string"}
    if hasattr(hint, "__metadata__"):
        return _of_hint(hint.__origin__)
    return {}


def _array(origin: Any, arguments: Any) -> Dict[str, Any]:
    schema: Dict[str, Any] = {"type": "array"}
    kinds = [argument for argument in arguments if argument is not Ellipsis]
    items = _of_hint(kinds[0]) if kinds and all(kind == kinds[0] for kind in kinds) else {}
    return {**schema, "items": items} if items else schema


def _of_union(arguments: Any) -> Dict[str, Any]:
    kinds = [_of_hint(kind) for kind in arguments if kind is not type(None)]
    nullable = type(None) in arguments
    if len(kinds) == 1 and "enum" in kinds[0]:
        return {"enum": kinds[0]["enum"] + ([None] if nullable else [])}
    if not all(isinstance(kind.get("type"), str) for kind in kinds):
        return {}
    names = list(dict.fromkeys(kind["type"] for kind in kinds)) + (["null"] if nullable else [])
    items = [kind["items"] for kind in kinds if "items" in kind]
    schema: Dict[str, Any] = {"type": names if len(names) > 1 else names[0]}
    if len(items) == 1:
        schema["items"] = items[0]
    return schema


def _of_trait(trait: Any) -> Dict[str, Any]:
    """Returns the schema of a trait."""
    schema = _of_trait_class(trait)
    if getattr(trait, "allow_none", False):
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
        elif "type" in schema:
            schema["type"] = [schema["type"], "null"]
    for bound, name in (("min", "minimum"), ("max", "maximum")):
        limit = getattr(trait, bound, None)
        is_number = schema.get("type") in ("integer", "number")
        if is_number and isinstance(limit, (int, float)) and math.isfinite(limit):
            schema[name] = limit
    return schema


def _of_trait_class(trait: Any) -> Dict[str, Any]:
    names = [cls.__name__ for cls in type(trait).__mro__]
    if "UseEnum" in names:
        return {"enum": [member.name for member in trait.enum_class]}
    if "CaselessStrEnum" in names:
        # The trait ignores case, which a schema cannot express.
        return {"type": "string"}
    if "Enum" in names:
        return {"enum": list(trait.values)}
    if "Container" in names:
        inner = getattr(trait, "_trait", None)
        items = _of_trait(inner) if inner is not None else {}
        return {"type": "array", "items": items} if items else {"type": "array"}
    for name in names:
        if name in _TRAITS and not name.startswith("C"):
            # A trait that casts accepts more than its own type.
            return (
                {}
                if any(n.startswith("C") and n[1:] == name for n in names)
                else {"type": _TRAITS[name]}
            )
    return {}
