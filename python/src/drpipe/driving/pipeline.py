"""Pipelines that are configured by a file, run from Python."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from ..api.errors import ConfigError
from ..api.report import Report
from . import channel, logging_bridge, program, rewrite
from .exchange import Feeder, Results
from .private_directory import Private
from .running import Run

if TYPE_CHECKING:
    from .adapters import Given

Path = Union[str, "os.PathLike[str]"]


class Pipeline:
    """A checked pipeline, ready to run, as often as wanted.

    Example:
        >>> import drpipe
        >>> pipeline = drpipe.Pipeline.load("night.json", {"CLEAN.nb_thread": 4})  # doctest: +SKIP
        >>> report = pipeline.run()  # doctest: +SKIP
        >>> report.exit_code  # doctest: +SKIP
        0
    """

    def __init__(self, found: str, path: str, settings: Mapping[str, Any]) -> None:
        self._program, self._path, self._settings = found, path, dict(settings)

    @classmethod
    def load(
        cls, path: Path = "pipeline.json", settings: Optional[Mapping[str, Any]] = None
    ) -> Pipeline:
        """Checks a configuration file. `settings` beat it: a step's key
        ("CLEAN.nb_thread"), a step's parameter, or a class's ("FitsFiles.directory").

        Relative paths in it are relative to the current directory. Steps in Python run
        in this interpreter's virtual environment, if it is one and the configuration
        names no other.

        Raises:
            ProgramNotFound: if there is no drpipe program.
            ConfigError: with everything that is wrong with the configuration.

        Example:
            >>> Pipeline.load("night.json")  # doctest: +SKIP
        """
        found = program.find()
        name = os.path.expanduser(path)
        program.check(found, name, settings)
        return cls(found, name, settings or {})

    def run(self, **options: Any) -> Report:
        """Runs to the end. The options are those of `start`. That inputs failed is no
        error: the report says so, and `Report.check` raises.

        Raises:
            RunStopped: if it was stopped before its end; the exception has the report.
            RunError: if it could not be started, or had to be given up.
            RunInterrupted: a KeyboardInterrupt that has the report, when the run has ended.

        Example:
            >>> report = pipeline.run(quarantine="bad").check()  # doctest: +SKIP
        """
        with self.start(**options) as run:
            return run.wait()

    def start(
        self,
        *,
        mode: str = "threads",
        journal: Optional[Path] = None,
        resume: bool = False,
        quarantine: Optional[Path] = None,
        summary: Optional[Path] = None,
        drain_limit: Optional[float] = None,
        results: bool = False,
        ordered: Optional[bool] = None,
    ) -> Run:
        """Starts a run in the background.

        Args:
            mode: "threads"; "sequential": one message after the other; or "inline": the
                same, with the steps in Python in this process, in the thread that calls
                `Run.wait`, where pdb, coverage and the like find them. `run` does so.
            journal: records in this file what becomes of each item.
            resume: skips what the journal has as done; without `journal` it is the
                configuration's name with .journal, in the current directory.
            quarantine: keeps failed inputs here instead of where the configuration says.
            summary: writes the report to this file as JSON.
            drain_limit: how long a cancelled run may finish what it has begun, in seconds.
            results: hands over what the last step returns or sends: see `Run.results`
                and `Report.results`.
            ordered: whether the last steps, and so the results, get their messages in the
                order of the producer's; otherwise the configuration says so.

        Raises:
            ConfigError: if there can be no results, as the last step is a consumer.

        Example:
            >>> with pipeline.start() as run:  # doctest: +SKIP
            ...     for progress in run.progress():
            ...         print(progress.elapsed)
        """
        if resume and journal is None:
            journal = os.path.splitext(os.path.basename(self._path))[0] + ".journal"
        options = {
            "--mode": "sequential" if mode == INLINE else mode,
            "--journal": journal,
            "--quarantine": quarantine,
            "--summary": summary,
            "--drain-limit": drain_limit,
        }
        flags = [*(["--resume"] if resume else []), *(["--ordered"] if ordered else [])]
        settings = {**self._settings, **({} if ordered is not False else {"ordered": False})}
        private = Private()
        try:
            file = self._path
            if results:
                config, settings = rewrite.with_results(file, settings)
                file = private.file(os.path.basename(file))
                write_json(file, config)
                try:
                    program.check(self._program, file, settings)
                except ConfigError as error:
                    raise rewrite.refused(error, self._path) from None
            words = command(self._program, file, settings, options, flags)
            return launch(words, private, mode, results=results, drain_limit=drain_limit)
        except BaseException:
            private.remove()
            raise


#: The mode that is none of the program's: the steps in Python run in the driver.
INLINE = "inline"


def launch(
    words: List[str],
    private: Private,
    mode: str,
    *,
    results: bool,
    drain_limit: Optional[float],
    feeder: Optional[Feeder] = None,
    given: Optional[Dict[str, Given]] = None,
) -> Run:
    """Starts the program with the command `words`. `given` is what the inline steps of
    `drpipe.run` are made of; of a configuration's pipeline there is none."""
    environment = {**program.environment(), channel.VARIABLE: private.path}
    host = None
    if mode == INLINE:
        from .inline import Host

        host = Host(private.path, given)
        environment.update(host.environment())
    return Run(
        words,
        environment,
        private=private,
        results=Results(private.path) if results else None,
        feeder=feeder,
        host=host,
        drain_limit=drain_limit,
        numbered=given is not None,
    )


def command(
    found: str,
    config: str,
    settings: Optional[Mapping[str, Any]],
    options: Mapping[str, Any],
    flags: List[str],
) -> List[str]:
    """The command that runs a configuration. An option without a value is left out."""
    words = [found, "run", "--quiet", "--config", config, *program.settings_arguments(settings)]
    for name, value in {**logging_bridge.options(), **options}.items():
        if value is not None:
            words += [name, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return words + flags


def write_json(file: str, value: Any) -> None:
    """Writes a configuration."""
    with open(file, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2)
