"""Finds the drpipe program, builds its arguments, and checks configurations with it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from typing import Any, Dict, List, Mapping, Optional

from ..api.errors import ConfigError, ProgramNotFound
from ..api.report import RunError

#: The environment variable that names the program.
VARIABLE = "DRPIPE"
#: The exit code for a wrong configuration.
USAGE = 2


def find() -> str:
    """Returns the path of the program.

    This is the program that DRPIPE names, else the one beside the interpreter, else on PATH.

    Raises:
        ProgramNotFound: if there is none.
    """
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise ProgramNotFound(
                f"{VARIABLE}={named}: there is no such program; name the drpipe program, "
                f"or unset {VARIABLE}"
            )
        return os.path.abspath(found)
    beside = os.path.join(os.path.dirname(sys.executable or ""), "drpipe")
    if os.path.isfile(beside) and os.access(beside, os.X_OK):
        return os.path.abspath(beside)
    on_path = shutil.which("drpipe")
    if on_path is None:
        raise ProgramNotFound(
            f"there is no drpipe program: neither {beside} nor one on PATH; build it in a clone "
            f"of drpipe's repository (cargo install --path .), or set {VARIABLE} to its path"
        )
    return os.path.abspath(on_path)


def other_version(path: str) -> str:
    """Returns what to say of a program that fails if its version is not this package's."""
    ours = importlib.import_module("drpipe").__version__
    try:
        said = subprocess.run([path, "--version"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    name, _, version = said.stdout.decode("utf-8", "replace").strip().partition(" ")
    if name == "drpipe" and version == ours:
        return ""
    found = f"is drpipe {version}" if name == "drpipe" and version else "does not say its version"
    return (
        f"; the program {path} {found}, and this Python package is drpipe {ours}: install "
        f"both in one version, or set {VARIABLE} to the path of the program that goes with it"
    )


def settings_arguments(settings: Optional[Mapping[str, Any]]) -> List[str]:
    """Returns settings as command-line arguments. Strings are passed unchanged."""
    arguments = []
    for name, value in (settings or {}).items():
        is_text = isinstance(value, (str, os.PathLike))
        text = os.fspath(value) if is_text else json.dumps(value)
        arguments += ["--set", f"{name}={text}"]
    return arguments


def environment() -> Dict[str, str]:
    """Returns the environment for the program.

    Python steps run in this interpreter's virtual environment unless the configuration or the
    environment names another.
    """
    variables = dict(os.environ)
    if sys.prefix != sys.base_prefix:
        variables.setdefault("VIRTUAL_ENV", sys.prefix)
    return variables


def check(program: str, config: str, settings: Optional[Mapping[str, Any]]) -> None:
    """Checks a configuration.

    Raises:
        ConfigError: if it is wrong. The message lists every error.
        RunError: if the program ended with another exit code.
    """
    command = [program, "check", "--config", config, *settings_arguments(settings)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
    )
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == USAGE:
        raise ConfigError(said)
    if done.returncode != 0:
        raise RunError(f"{program} check ended with exit code {done.returncode}: {said}")
