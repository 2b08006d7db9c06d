"""`nelbo evaluate run=...`: the measures of finished runs, one after another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import distributed

from nelbo import __version__
from nelbo.checkpoints.environment import environment
from nelbo.checkpoints.record import FOLDED
from nelbo.config.build import build, user_prefixes
from nelbo.errors import ConfigError, NelboError, at_most, integer, positive_integer
from nelbo.evaluation.measure import Findings, JointMeasure, Measure, NotApplicable, Subject
from nelbo.evaluation.processes import Processes
from nelbo.finished.compare import compare
from nelbo.finished.dashboard import show
from nelbo.finished.destination import Destination
from nelbo.finished.durations import Durations
from nelbo.finished.evaluation_file import Results
from nelbo.finished.run import FinishedRun
from nelbo.finished.score_table import print_comparison, print_results
from nelbo.terminal.console import make_console

MEASURE_PREFIXES = ("nelbo.evaluation.",)
INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended."""


def evaluate(plain: Mapping[str, Any]) -> None:
    """Measure finished runs, write the results into their directories and print them.

    Args:
        plain: the config composed from conf/evaluate.yaml, as plain containers.

    Raises:
        NelboError: if the config, a run or its data cannot be used, or nothing could be measured.
    """
    if plain["threads"] is not None:
        torch.set_num_threads(positive_integer("threads", plain["threads"]))
    # Checked here and not only in the measures that interpolate them, so that an error names the key that was typed.
    at_most("limit", plain["limit"])
    positive_integer("num_samples", plain["num_samples"])
    allow = user_prefixes("allow_targets", plain["allow_targets"])
    measures = build(plain["metrics"], "metrics", (*MEASURE_PREFIXES, *allow))
    check_measures(measures, plain)
    paths = [plain["run"]] if isinstance(plain["run"], str) else plain["run"]
    if not isinstance(paths, list) or not paths or not all(isinstance(run, str) for run in paths):
        raise ConfigError("run", paths, "must be a run's directory or checkpoint, or a list: run=[a,b]", located=True)
    destination = Destination.check(plain["out"], len(paths))
    runs = [FinishedRun.open(run, allow, plain["data"], key="run", setting=plain["at"]) for run in paths]
    with joined_processes() as processes, watched(processes) as (watch, durations):
        settings = {
            "split": plain["split"],
            "device": plain["device"],
            "processes": processes,
            "watch": watch,
            "expect": durations.expect,
            "seed": integer("seed", plain["seed"], minimum=0, maximum=2**32 - 1),
            "batch_size": positive_integer("batch_size", plain["batch_size"]),
        }
        subjects = [run.subject(name=name, **settings) for run, name in zip(runs, names(paths), strict=True)]
        evaluations = [
            Evaluation(run, subject, plain, destination.folder_of(run, subject.name))
            for run, subject in zip(runs, subjects, strict=True)
        ]
        measure_all(measures, evaluations, durations)
    if processes.rank:
        return
    if not any(evaluation.findings for evaluation in evaluations):
        raise NelboError(f"nothing was measured: {'; '.join(dict.fromkeys(evaluations[0].left_out))}")
    for evaluation in evaluations:
        print_results(evaluation)
    if len(evaluations) > 1:
        comparison = compare({item.subject.name: item.results for item in evaluations})
        comparison.setting.update(plain["at"])
        print_comparison(comparison, destination.comparison)


class Evaluation:
    """The evaluation of one run in this call.

    Args:
        run: the run.
        subject: its model and data.
        plain: the composed config.
        folder: the folder for the results.
    """

    def __init__(self, run: FinishedRun, subject: Subject, plain: Mapping[str, Any], folder: Path) -> None:
        self.run, self.subject, self.plain, self.folder = run, subject, plain, folder
        self.findings: dict[str, Findings] = {}
        self.left_out: list[str] = []
        self.pictures: list[Path] = []
        facts: dict[str, Any] = {
            **subject.data,
            "split": subject.split,
            "checkpoint": run.file.name,
            "checkpoint_sha256": subject.checkpoint,
            "checkpoint_step": run.step,
            "evaluation_seed": subject.seed,
            "nelbo_version": __version__,
            **({"at": dict(run.setting)} if run.setting else {}),
            **({FOLDED: run.record[FOLDED]} if FOLDED in run.record else {}),
        }
        self.results = Results(folder, facts)
        self.environment = environment(subject.device, subject.processes.count)

    def take(self, name: str, measure: Measure) -> None:
        """Measure, and write the results at once, because a later measure may take hours and may fail.

        Args:
            name: the name of the measure.
            measure: the measure.
        """
        started = time.perf_counter()
        try:
            findings = measure(self.subject)
        except NotApplicable as reason:
            self.left_out.append(str(reason))
            return
        self.keep(name, findings, time.perf_counter() - started)

    def keep(self, name: str, findings: Findings, seconds: float) -> None:
        """Write the results of a measure.

        Args:
            name: the name of the measure.
            findings: its results.
            seconds: how long it took.
        """
        self.findings[name] = findings
        if self.subject.processes.rank == 0:
            self.results.add(name, findings, self.plain["metrics"][name], seconds, self.environment)
            split = f"{self.subject.split} {self.run.setting_name}".strip()
            self.pictures += show(self.folder, split, findings, self.run.step)


def measure_all(
    measures: Mapping[str, Measure | JointMeasure], evaluations: Sequence[Evaluation], durations: Durations
) -> None:
    """Take every measure of every run, those of several runs together last; Ctrl-C ends with exit status 130."""
    try:
        for evaluation in evaluations:
            for name, measure in measures.items():
                if isinstance(measure, Measure):
                    durations.begin()
                    evaluation.take(name, measure)
        for name, measure in measures.items():
            if isinstance(measure, JointMeasure):
                durations.begin()
                take_jointly(name, measure, evaluations)
    except KeyboardInterrupt:
        print("interrupted: the results so far are in evaluation.json", file=sys.stderr)
        sys.exit(INTERRUPTED)


def take_jointly(name: str, measure: JointMeasure, evaluations: Sequence[Evaluation]) -> None:
    """Take a measure of several runs together."""
    started = time.perf_counter()
    try:
        results = measure([evaluation.subject for evaluation in evaluations])
    except NotApplicable as reason:
        evaluations[0].left_out.append(str(reason))
        return
    for evaluation, findings in zip(evaluations, results, strict=True):
        evaluation.keep(name, findings, time.perf_counter() - started)


def check_measures(measures: object, plain: Mapping[str, Any]) -> None:
    """Refuse objects that are not measures.

    Args:
        measures: the objects by name.
        plain: the composed config.

    Raises:
        ConfigError: for the first one, or if there are no measures.
    """
    if not isinstance(measures, dict) or not measures:
        raise ConfigError("metrics", "[]", "must name at least one, such as metrics=[nll,elbo]", located=True)
    for name, measure in measures.items():
        if not isinstance(measure, Measure | JointMeasure):
            target = plain["metrics"][name]
            raise ConfigError(f"metrics.{name}", target, "is not a measure of nelbo.evaluation", located=True)


def names(paths: Sequence[str]) -> list[str]:
    """Return names for runs: their paths without what these have in common, numbered where they are the same.

    Examples:
        >>> names(["outputs/x/first", "outputs/y/first"])
        ['x/first', 'y/first']
    """
    folders = [os.path.abspath(run) for run in paths]
    if len(folders) == 1:
        return [Path(folders[0]).name]
    common = os.path.commonpath(folders)
    short = [os.path.relpath(folder, common) if folder != common else Path(folder).name for folder in folders]
    return [name if short.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(short, 1)]


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """A context with the processes that torchrun started, or this one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    distributed.init_process_group("gloo")  # only tensors on the CPU are exchanged, whatever the models' device
    try:
        yield Processes(distributed.get_rank(), count)
    finally:
        distributed.destroy_process_group()


@contextmanager
def watched(processes: Processes) -> Iterator[tuple[Any, Durations]]:
    """A context with a progress bar for each task in a terminal, and a line for each long task, of the first process.

    Yields:
        The function that a subject calls with the progress of its tasks, and the estimates of their durations.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = make_console(stderr=True, soft_wrap=False)
    visible = processes.rank == 0 and console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not visible) as progress:
        shown: dict[str, Any] = {}

        def say(line: str) -> None:
            if processes.rank == 0:
                progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

        durations = Durations(say)

        def watch(task: str, done: int, total: int) -> None:
            durations.watch(task, done, total)
            if task not in shown:
                shown[task] = progress.add_task(task, total=total)
            progress.update(shown[task], completed=done, total=total)
            if done >= total:
                progress.remove_task(shown.pop(task))

        yield watch, durations
