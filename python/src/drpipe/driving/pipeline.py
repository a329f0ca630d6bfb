"""Pipelines configured by a file, and their runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Union

from ..api.errors import ConfigError
from ..api.report import Report
from ..protocol.driver import DIRECTORY_VARIABLE
from . import logging_bridge, program, rewrite
from .exchange import Feeder, Results
from .private_directory import PrivateDirectory
from .running import Run

if TYPE_CHECKING:
    from .adapters import Given
    from .feed import Feed
    from .forking import Fork

Path = Union[str, "os.PathLike[str]"]


class Pipeline:
    """A pipeline whose configuration has been checked. It may be run any number of times.

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
        """Checks a configuration file and returns its pipeline.

        Python steps run in this interpreter's virtual environment if there is one and the
        configuration names no other.

        Args:
            path: the file. Relative paths in it are relative to the current directory.
            settings: values that override those of the file, by name: a step's key
                ("CLEAN.nb_thread"), a step's parameter, or a class's
                ("FitsFiles.directory"). A string is parsed as on the command line.

        Raises:
            ProgramNotFound: if there is no drpipe program.
            ConfigError: if the configuration is wrong. The message lists every error.
            RunError: if the program could not check it.

        Example:
            >>> Pipeline.load("night.json")  # doctest: +SKIP
        """
        found = program.find()
        name = os.path.expanduser(path)
        program.check(found, name, settings)
        return cls(found, name, settings or {})

    def run(self, **options: Any) -> Report:
        """Runs the pipeline and waits for its end.

        Failed inputs raise nothing: they are in the report, and `Report.check` raises.

        Args:
            options: those of `start`.

        Returns:
            The report.

        Raises:
            ConfigError: as for `start`.
            RunStopped: if the run was stopped before its end; the exception has the report.
            RunError: if the run could not be started, or broke off without a report.
            RunInterrupted: a KeyboardInterrupt that has the report, when the run has ended.

        Example:
            >>> report = pipeline.run(quarantine="bad").check()  # doctest: +SKIP
        """
        with self.start(**options) as run:
            return run.wait()

    def feed(
        self,
        *,
        journal: Optional[Path] = None,
        resume: bool = False,
        quarantine: Optional[Path] = None,
        summary: Optional[Path] = None,
    ) -> Feed:
        """Starts a run that this program feeds: the producer has the class `Caller`.

        Args:
            journal: as for `start`.
            resume: as for `start`. Items that are skipped are acknowledged as done.
            quarantine: as for `start`.
            summary: as for `start`.

        Raises:
            RunError: if the run cannot begin, with the reason.

        Example:
            >>> with drpipe.Pipeline.load("open.json").feed() as feed:  # doctest: +SKIP
            ...     feed.put(4)
            ...     print([item.results for item in feed.acknowledgements()])
            [[16]]
        """
        from .feed import Feed

        if resume and journal is None:
            journal = self._journal()
        options = {"--journal": journal, "--quarantine": quarantine, "--summary": summary}
        # Without events, the log has the lines of steps.
        log = {**logging_bridge.options(), "--log-level": "info"}
        arguments = program.settings_arguments(self._settings)
        for name, value in {**log, **options}.items():
            if value is not None:
                arguments += [name, os.fspath(value)]
        return Feed(self._path, [*arguments, *(["--resume"] if resume else [])])

    def _journal(self) -> str:
        return os.path.splitext(os.path.basename(self._path))[0] + ".journal"

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
        """Starts a run in the background, and returns at once.

        Args:
            mode: "threads"; "sequential", one message after the other; or "inline", the same
                with the steps in Python in this process, in the thread that calls
                `Run.wait`, where pdb, coverage and profilers find them.
            journal: a file that records the outcome of each item.
            resume: skips items that the journal records as done. Without `journal` it is the
                configuration's name with .journal, in the current directory.
            quarantine: the directory for failed inputs; the default is the configuration's.
            summary: a file to which the report is written as JSON.
            drain_limit: how long a cancelled run may finish what it has begun, in seconds.
            results: whether to deliver what the last step returns or sends to `Run.results`
                and `Report.results`.
            ordered: whether the last steps, and so the results, keep the producer's order;
                by default the configuration decides.

        Raises:
            ConfigError: if there can be no results because the last step is a consumer.
            OSError: if the program cannot be started.

        Example:
            >>> with pipeline.start() as run:  # doctest: +SKIP
            ...     for progress in run.progress():
            ...         print(progress.elapsed)
        """
        if resume and journal is None:
            journal = self._journal()
        options = {
            "--mode": "sequential" if mode == INLINE else mode,
            "--journal": journal,
            "--quarantine": quarantine,
            "--summary": summary,
            "--drain-limit": drain_limit,
        }
        flags = [*(["--resume"] if resume else []), *(["--ordered"] if ordered else [])]
        settings = {**self._settings, **({} if ordered is not False else {"ordered": False})}
        private = PrivateDirectory()
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


#: The mode in which Python steps run in the driver. The program has no such mode.
INLINE = "inline"


def launch(
    words: List[str],
    private: PrivateDirectory,
    mode: str,
    *,
    results: bool,
    drain_limit: Optional[float],
    feeder: Optional[Feeder] = None,
    given: Optional[Dict[str, Given]] = None,
    fork: Optional[Fork] = None,
) -> Run:
    """Starts the program.

    Args:
        words: the command.
        private: the driver's private directory, which the run removes.
        mode: as for `Pipeline.start`.
        results: whether the last step delivers its values.
        drain_limit: as for `Pipeline.start`.
        feeder: the object that sends the producer its items.
        given: the objects that the inline steps of `drpipe.run` wrap; None for a configured
            pipeline.
        fork: the fork of this process from which workers are forked.
    """
    environment = {**program.environment(), DIRECTORY_VARIABLE: private.path}
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
        fork=fork,
    )


def command(
    found: str,
    config: str,
    settings: Optional[Mapping[str, Any]],
    options: Mapping[str, Any],
    flags: List[str],
) -> List[str]:
    """Returns the command that runs a configuration. Omits options that are None."""
    words = [found, "run", "--quiet", "--config", config, *program.settings_arguments(settings)]
    for name, value in {**logging_bridge.options(), **options}.items():
        if value is not None:
            words += [name, os.fspath(value) if isinstance(value, os.PathLike) else str(value)]
    return words + flags


def write_json(file: str, value: Any) -> None:
    """Writes a configuration to a file."""
    with open(file, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2)
