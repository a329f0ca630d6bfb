"""Provides the import paths of early ctapipe versions for modules written for its pipelines.

All other import paths take precedence: an installed ctapipe comes first.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from typing import Any, Dict, Iterator, Optional, Sequence

_PACKAGE = "ctapipe"


def install() -> None:
    """Makes Python look for modules under these import paths."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def import_module(name: str) -> Any:
    """Imports a module. Restores names that it imports from modules that no longer have them."""
    while True:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            module = sys.modules.get(error.name or "")
            content = _CONTENT.get(error.name or "", _nothing)()
            lost = {key: value for key, value in content.items() if not hasattr(module, key)}
            if module is None or not lost:
                raise
            vars(module).update(lost)


class _Finder:
    """The last finder of `sys.meta_path`."""

    def find_spec(
        self, name: str, path: Optional[Sequence[str]] = None, target: Any = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """Returns the spec of a module of ctapipe that no other finder has found."""
        del path, target
        first, *inner = name.split(".")
        if first != _PACKAGE:
            return None
        # An installed ctapipe hides directories named ctapipe beside the pipeline.
        parents = [os.path.join(place, *name.split(".")[:-1]) for place in sys.path]
        found = importlib.machinery.PathFinder.find_spec(name, parents) if inner else None
        if found is not None and found.loader is not None:
            return found
        if name not in _CONTENT:
            return found
        # Such a directory may contain submodules.
        spec = importlib.machinery.ModuleSpec(name, _LOADER, is_package=True)
        spec.submodule_search_locations = [
            os.path.join(place, *name.split(".")) for place in sys.path
        ]
        return spec


class _Loader:
    def create_module(self, spec: Any) -> None:
        del spec

    def exec_module(self, module: Any) -> None:
        vars(module).update(_CONTENT[module.__name__]())


_LOADER: Any = _Loader()


def _nothing() -> Dict[str, Any]:
    return {}


def _core() -> Dict[str, Any]:
    import logging

    from traitlets.config import Configurable

    class Component(Configurable):
        """A class with parameters and a log."""

        def __init__(self, config: Any = None, parent: Any = None, **kwargs: Any) -> None:
            above = getattr(parent, "log", None)
            name = type(self).__name__
            own = above.getChild(name) if above else logging.getLogger(f"{_PACKAGE}.{name}")
            self.log = own
            given = {} if config is None else {"config": config}
            super().__init__(parent=parent, **given, **kwargs)

    Component.__module__ = f"{_PACKAGE}.core"
    return {"Component": Component}


def _configuration() -> Dict[str, Any]:
    class ConfigurationException(Exception):
        """A configuration is wrong."""

    class Configuration:
        """A placeholder: later versions of ctapipe use traitlets instead."""

    return {"Configuration": Configuration, "ConfigurationException": ConfigurationException}


def _datasets() -> Dict[str, Any]:
    def get_path(name: str) -> str:
        """Returns the path of a file if it exists, else of ctapipe's test data."""
        if os.path.exists(name):
            return name
        try:
            from ctapipe.utils import get_dataset_path  # type: ignore[import-not-found]
        except ImportError:
            raise RuntimeError(f"there is no file {name}") from None
        return str(get_dataset_path(name))

    return {"get_path": get_path, "get_dataset_path": get_path}


def _hessio() -> Dict[str, Any]:
    def hessio_event_source(url: str, max_events: Optional[int] = None) -> Iterator[Any]:
        """Yields the events of a file, read by the installed ctapipe."""
        try:
            from ctapipe.io import EventSource  # type: ignore[import-not-found]
        except ImportError:
            command = f"{sys.executable} -m pip install ctapipe eventio"
            raise RuntimeError(f"{url} cannot be read without ctapipe: {command}") from None
        with EventSource(url, max_events=max_events) as source:
            yield from map(_Event, source)

    return {"hessio_event_source": hessio_event_source}


class _Event:
    """An event that offers its parts under their former names."""

    def __init__(self, event: Any) -> None:
        self.event = event
        self.dl0 = _Level(event)


class _Level:
    def __init__(self, event: Any) -> None:
        self.obs_id = event.index.obs_id
        self.event_id = event.index.event_id
        self.tel = event.dl0.tel
        self.tels_with_data = set(event.dl0.tel) or set(event.r1.tel) or set(event.r0.tel)


_CONTENT = {
    _PACKAGE: _nothing,
    f"{_PACKAGE}.core": _core,
    f"{_PACKAGE}.core.component": _core,
    f"{_PACKAGE}.configuration": _nothing,
    f"{_PACKAGE}.configuration.core": _configuration,
    f"{_PACKAGE}.io": _nothing,
    f"{_PACKAGE}.io.hessio": _hessio,
    f"{_PACKAGE}.pipeline": _nothing,
    f"{_PACKAGE}.pipeline.algorithms": _nothing,
    f"{_PACKAGE}.utils": _nothing,
    f"{_PACKAGE}.utils.datasets": _datasets,
}
