"""A search: an Optuna study whose trials are cells. What a trial came to is read from its directory."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState

from nelbo.errors import ConfigError, NelboError, choice, first_line, positive_integer
from nelbo.files import write_json
from nelbo.sweeps import compat
from nelbo.sweeps.cells.record import Cell, read_cells
from nelbo.sweeps.measured import refuse_unknown
from nelbo.sweeps.storage import without_secrets
from nelbo.sweeps.sweep import Sweep

log = logging.getLogger(__name__)
WAYS = ("minimize", "maximize")
INTERRUPTED, SWEEP = "interrupted", "nelbo_sweep"
"""What a study's trials are marked with: their command was killed; the token of the sweep whose they are."""

BEST = "optuna.json"

Space = dict[str, BaseDistribution]


class Search:
    """Trials of a study, until there are as many finished ones as asked for.

    Args:
        sweeper: Hydra's, for its reading of the space.
        sweep: the cells.
        metrics: keys of metrics.json.
        pruner: decides in the jobs which trials are given up; None for none.
        pruner_config: the same as plain containers, for the jobs.

    Raises:
        ConfigError: for numbers, directions or metrics that make no sense.
    """

    study: optuna.Study
    """Opened when it runs: once nothing is left to refuse that can be seen before a trial."""

    def __init__(
        self,
        sweeper: compat.StudySweeper,
        sweep: Sweep,
        metrics: Sequence[str],
        pruner: optuna.pruners.BasePruner | None,
        pruner_config: Mapping[str, Any] | None,
    ) -> None:
        self.sweeper, self.sweep, self.metrics, self.pruner_config = sweeper, sweep, list(metrics), pruner_config
        self.n_trials = positive_integer("hydra.sweeper.n_trials", sweeper.n_trials)
        self.n_jobs = positive_integer("hydra.sweeper.n_jobs", sweeper.n_jobs)
        self.directions = [choice("hydra.sweeper.direction", name, WAYS) for name in sweeper.directions()]
        if len(self.directions) != len(self.metrics):
            hint = f"needs one direction for each of {len(self.metrics)} metrics"
            raise ConfigError("hydra.sweeper.direction", self.directions, hint)
        if len(self.metrics) > 1 and pruner is not None:
            log.info("no trial is given up early: pruning needs a single metric")
            pruner, self.pruner_config = None, None
        if not isinstance(sweeper.sampler, optuna.samplers.BaseSampler):  # one that is to be given the space
            hint = "needs no search: a sweep is a grid without hydra/sweeper=optuna"
            raise ConfigError("hydra/sweeper/sampler", "grid", hint)
        for metric in self.metrics:
            refuse_unknown(metric, closed=not OmegaConf.select(sweep.config, "allow_targets"))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.pruner = pruner or optuna.pruners.NopPruner()

    def open_study(self) -> optuna.Study:
        """The study, made if there is none yet.

        Raises:
            NelboError: if the database or the study refuses.
        """
        try:
            return optuna.create_study(
                study_name=self.sweeper.study_name,
                storage=self.sweeper.storage,
                sampler=self.sweeper.sampler,
                pruner=self.pruner,
                directions=[StudyDirection[name.upper()] for name in self.directions],
                load_if_exists=True,
            )
        except Exception as error:  # of whatever database it is
            reason = f"{type(error).__name__}: {without_secrets(first_line(error), str(self.sweeper.storage))}"
            # Not `from error`, whose message may hold the password.
            raise NelboError(f"hydra.sweeper: study {self.sweeper.study_name} cannot be opened: {reason}") from None

    def run(self, arguments: Sequence[str]) -> None:
        """Ask, launch, tell; end with the account.

        Raises:
            HydraException: if a config of its space cannot be composed.
            ConfigError: if there is nothing to search, or nothing reads a key.
            NelboError: if the study cannot be opened.
            SweepError: if trials failed.
            SystemExit: if it was told to stop.
        """
        space, fixed, more = read_space(self.sweeper, arguments)
        for values in examples(space):
            trial = FixedTrial(values)  # of no study
            (job,) = self.sweeper.suggest([trial], space, fixed, more)
            self.sweep.compose(job)
        self.study = self.open_study()
        self.sweep.swept = list(space)
        self.take_up()
        log.info("study %s: %d of %d trials are finished", self.study.study_name, self.finished(), self.n_trials)
        while (left := self.n_trials - self.finished()) > 0:
            trials = [self.ask() for _ in range(min(left, self.n_jobs))]
            self.run_trials(trials, self.sweeper.suggest(trials, space, fixed, more))
        self.write_best()
        self.sweep.account()

    def ask(self) -> Trial:
        """A trial of the study that is known for one of this sweep."""
        trial = self.study.ask()
        trial.set_user_attr(SWEEP, self.sweep.plan.token)
        return trial

    def take_up(self) -> None:
        """Trials that an earlier command left running are failed, and asked for again with the same values.

        A search in another directory may be running others of the same study.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(SWEEP, self.sweep.plan.token) != self.sweep.plan.token:
                continue
            self.give_up(trial)
            self.study.enqueue_trial(trial.params)

    def give_up(self, trial: Trial | FrozenTrial) -> None:
        """Fail a trial that came to nothing of its own; it does not count."""
        compat.set_trial_attribute(self.study, trial, INTERRUPTED, True)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def finished(self) -> int:
        """Trials that came to an end of their own."""
        return sum(
            trial.state.is_finished() and INTERRUPTED not in trial.user_attrs
            for trial in self.study.get_trials(deepcopy=False)
        )

    def run_trials(self, trials: Sequence[Trial], jobs: Sequence[Sequence[str]]) -> None:
        """Run those whose cell has no result yet; tell the study what all came to."""
        asked: dict[str, list[str]] = {}
        keys = []
        for trial, job in zip(trials, jobs, strict=True):
            try:
                key, overrides = self.sweep.ask(job)
            except Exception:  # values that go one by one, but not together: no trial is left to be taken up
                for one in trials:
                    self.give_up(one)
                raise
            asked.setdefault(key, [*overrides, f"trial={self.handover(trial)}"])
            keys.append(key)
        self.sweep.plan.write(self.sweep.folder)
        over = {cell.identity for cell in read_cells(self.sweep.folder, keys) if cell.state in ("done", "pruned")}
        if missing := [overrides for key, overrides in asked.items() if key not in over]:
            self.sweep.launch(missing)
        for trial, cell in zip(trials, read_cells(self.sweep.folder, keys), strict=True):
            self.tell(trial, cell)

    def handover(self, trial: Trial) -> str:
        """What a job must know to report to its trial, in Hydra's grammar."""
        if self.pruner_config is None:
            return "null"
        told = {
            "study": self.study.study_name,
            "number": trial.number,
            "metric": self.metrics[0],
            "pruner": self.pruner_config,
        }
        return _grammar(told)

    def tell(self, trial: Trial, cell: Cell) -> None:
        """Take what a cell came to into the study."""
        if cell.state == "pruned":
            self.study.tell(trial, state=TrialState.PRUNED)
        elif cell.state != "done":
            trial.set_user_attr("error", cell.error)
            self.study.tell(trial, state=TrialState.FAIL)
        elif unknown := [metric for metric in self.metrics if metric not in cell.metrics]:
            known = ", ".join(key for key in cell.metrics if "/" in key)
            raise ConfigError("hydra.sweeper.metric", unknown[0], f"is not in metrics.json, which has: {known}")
        else:
            self.study.tell(trial, [cell.metrics[metric] for metric in self.metrics])

    def write_best(self) -> None:
        """The best trial, or the Pareto front, to the log and to `optuna.json`."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best: list[FrozenTrial] = self.study.best_trials if complete else []
        for trial in best:
            values = ", ".join(f"{key} {value:.4f}" for key, value in zip(self.metrics, trial.values, strict=True))
            log.info("best: trial %d: %s with %s", trial.number, values, _told(trial.params))
        states = {
            state.name.lower(): sum(t.state == state for t in self.study.get_trials(deepcopy=False))
            for state in TrialState
        }
        found = [{"number": trial.number, "params": trial.params, "values": trial.values} for trial in best]
        write_json(self.sweep.folder / BEST, {"metrics": self.metrics, "trials": states, "best": found})


def read_space(sweeper: compat.StudySweeper, arguments: Sequence[str]) -> tuple[Space, dict[str, Any], list[str]]:
    """What is searched, by key; the values that are fixed; and what is left out (`~key`).

    Args:
        sweeper: whose config names a space.
        arguments: of the command line, which win; of several for a key the last.

    Raises:
        ConfigError: if nothing is searched.
    """
    words = {_key(word): word for word in (*sweeper.parameters(), *arguments)}  # the last of each
    space, fixed, more = compat.read_space(list(words.values()))
    if not space:
        raise ConfigError("hydra/sweeper", "optuna", "has nothing to search: model.latent_dim=range(2,33) for instance")
    return space, fixed, more


def examples(space: Space) -> Iterator[dict[str, Any]]:
    """Values of a space in which every key and every choice among texts, such as options of a group, stands once."""
    first = {
        key: one.choices[0] if isinstance(one, CategoricalDistribution) else one.low  # type: ignore[attr-defined]
        for key, one in space.items()
    }
    yield first
    for key, one in space.items():
        if isinstance(one, CategoricalDistribution):
            yield from ({**first, key: other} for other in one.choices[1:] if isinstance(other, str))


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+")


def _told(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in params.items())


def _grammar(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_grammar(item)}" for key, item in value.items()) + "}"
    return json.dumps(value) if not isinstance(value, str) else f'"{value}"'
