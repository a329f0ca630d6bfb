"""Adds a step that delivers the results to the driver to the end of a configuration."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Mapping, Tuple

from ..api.errors import ConfigError
from ..protocol.driver import RESULTS_MODULE
from ..protocol.path_names import name_of_path

Config = Dict[str, Any]

#: The step's name. If another step has the same name, a number follows.
_NAME = "RESULTS"


def with_results(path: str, settings: Mapping[str, Any]) -> Tuple[Config, Dict[str, Any]]:
    """Returns the configuration of a checked file with the step added, and the settings that
    must still be passed.

    The former consumer becomes the last of the stagers. The file's directory becomes part of
    `pythonpath`, since the new file is elsewhere.
    """
    with open(path, encoding="utf-8") as file:
        config: Config = json.load(file)
    rest = dict(settings)
    around, keys = _spelling(config)
    consumer = around[keys[2]]
    steps = [around[keys[0]], *around.get(keys[1], []), consumer]
    name = _free_name([str(step.get("name")) for step in steps])
    explicit = any("next_steps" in step for step in steps) or any(
        setting.endswith(".next_steps") for setting in rest
    )
    if explicit:
        own = f"{consumer.get('name')}.next_steps"
        consumer["next_steps"] = [*names(rest.pop(own, consumer.get("next_steps"))), name]
    around[keys[1]] = [*around.get(keys[1], []), consumer]
    around[keys[2]] = deliver(name)
    given = around.get("pythonpath", config.get("pythonpath"))
    around["pythonpath"] = _paths(path, given, rest)
    return config, rest


def deliver(name: str) -> Dict[str, Any]:
    """Returns the step that delivers the results."""
    return {
        "name": name,
        "module": RESULTS_MODULE,
        "class": "Deliver",
        "nb_process": 1,
        # The step fails if the driver has gone, and then the results are no longer needed.
        "on_error": "stop",
    }


def refused(error: ConfigError, path: str) -> ConfigError:
    """Returns the error that explains why a valid configuration cannot give results."""
    text = f"results=True: the last step of {path} must return or send what it makes"
    if "but is used as a" in str(error):
        text += "; it is a consumer: use a stage there, or a Python class not derived from Consumer"
    return ConfigError(f"{text}\n{error}")


def names(value: Any) -> List[str]:
    """Returns the names in a list or in a comma-separated string."""
    if value is None:
        return []
    if isinstance(value, str):
        value = value.split(",")
    return [name.strip() for name in value if name.strip()]


def _spelling(config: Config) -> Tuple[Config, List[str]]:
    for name in ("Pipeline", "Flow"):
        if name in config:
            return config[name], ["producer_conf", "stagers_conf", "consumer_conf"]
    return config, ["producer", "stagers", "consumer"]


def _free_name(taken: List[str]) -> str:
    name, number = _NAME, 1
    while name in taken:
        number += 1
        name = f"{_NAME}-{number}"
    return name


def _paths(path: str, given: Any, settings: Dict[str, Any]) -> List[str]:
    for name in ("pythonpath", "Pipeline.pythonpath", "Flow.pythonpath"):
        given = settings.pop(name, given)
    listed = [given] if isinstance(given, (str, os.PathLike)) else list(given or [])
    # Paths from the settings and from the file are passed on unchanged.
    beside = name_of_path(os.path.dirname(os.path.abspath(path)))
    return [*(os.fspath(path) for path in listed), ".", beside]
