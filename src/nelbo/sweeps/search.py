"""A search: an Optuna study whose trials are cells of a sweep, with their results read from their directories."""

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
from nelbo.sweeps.cells.record import SEARCH, Cell, read_cells
from nelbo.sweeps.measured import refuse_unknown
from nelbo.sweeps.storage import without_secrets
from nelbo.sweeps.sweep import Sweep

log = logging.getLogger(__name__)
DIRECTIONS = ("minimize", "maximize")

INTERRUPTED, SWEEP = "interrupted", "nelbo_sweep"
"""User attributes of trials: whether the trial was interrupted, and the token of its sweep."""

Space = dict[str, BaseDistribution]
"""The distributions that are searched, by key."""


class Search:
    """A search that runs trials of a study until it has the requested number of finished trials.

    Args:
        sweeper: the Optuna sweeper, which has the settings of the study and reads the space.
        sweep: the sweep that runs the cells.
        metrics: the keys of metrics.json that are optimised.
        pruner: the pruner of the study, which the jobs apply; None to prune no trial.
        pruner_config: the config of the pruner as plain containers, for the jobs.

    Raises:
        ConfigError: if a number, a direction, the sampler or a metric is invalid.
    """

    study: optuna.Study
    """The study, which is opened by `run` after all checks that need no trial."""

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
        self.directions = [choice("hydra.sweeper.direction", name, DIRECTIONS) for name in sweeper.directions()]
        if len(self.directions) != len(self.metrics):
            hint = f"needs one direction for each of {len(self.metrics)} metrics"
            raise ConfigError("hydra.sweeper.direction", self.directions, hint)
        if len(self.metrics) > 1 and pruner is not None:
            log.info("trials are not pruned: pruning needs a single metric")
            pruner, self.pruner_config = None, None
        if not isinstance(sweeper.sampler, optuna.samplers.BaseSampler):  # a sampler of a grid
            hint = "is not for searches; without hydra/sweeper=optuna a sweep is a grid"
            raise ConfigError("hydra/sweeper/sampler", "grid", hint)
        for metric in self.metrics:
            refuse_unknown(metric, closed=not OmegaConf.select(sweep.config, "allow_targets"))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.pruner = pruner or optuna.pruners.NopPruner()

    def open_study(self) -> optuna.Study:
        """Open the study, which is created if it does not exist.

        Raises:
            NelboError: if the database or the study cannot be opened.
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
        except Exception as error:  # each database has exceptions of its own
            reason = f"{type(error).__name__}: {without_secrets(first_line(error), str(self.sweeper.storage))}"
            # `from None`, because the message of `error` may contain the password.
            raise NelboError(f"hydra.sweeper: study {self.sweeper.study_name} cannot be opened: {reason}") from None

    def run(self, arguments: Sequence[str]) -> None:
        """Check the space, run trials until there are enough, and write the best.

        Args:
            arguments: the overrides of the command line.

        Raises:
            HydraException: if the config of a trial cannot be composed.
            ConfigError: if nothing is searched, or a key is not used by anything.
            NelboError: if the study cannot be opened.
            SweepError: if trials failed.
            SystemExit: if the process received a signal to stop.
        """
        space, fixed, deletions = read_space(self.sweeper, arguments)
        for values in examples(space):
            (job,) = self.sweeper.suggest([FixedTrial(values)], space, fixed, deletions)
            self.sweep.compose(job)
        self.study = self.open_study()
        self.sweep.swept = list(space)
        self.repeat_interrupted()
        log.info("study %s: %d of %d trials are finished", self.study.study_name, self.finished(), self.n_trials)
        while (left := self.n_trials - self.finished()) > 0:
            trials = [self.ask() for _ in range(min(left, self.n_jobs))]
            self.run_trials(trials, self.sweeper.suggest(trials, space, fixed, deletions))
        self.write_best()
        self.sweep.check_cells()

    def ask(self) -> Trial:
        """Return a new trial of the study, marked as one of this sweep."""
        trial = self.study.ask()
        trial.set_user_attr(SWEEP, self.sweep.plan.token)
        return trial

    def repeat_interrupted(self) -> None:
        """Fail the trials that an earlier command of this sweep left running, and enqueue their values again.

        Running trials of other sweeps are left alone: a search in another directory may use the same study.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(SWEEP, self.sweep.plan.token) != self.sweep.plan.token:
                continue
            self.discard(trial)
            self.study.enqueue_trial(trial.params)

    def discard(self, trial: Trial | FrozenTrial) -> None:
        """Fail a trial that was interrupted; it does not count as finished."""
        compat.set_trial_attribute(self.study, trial, INTERRUPTED, True)
        self.study.tell(trial.number, state=TrialState.FAIL)

    def finished(self) -> int:
        """Return the number of trials that have ended without being interrupted."""
        return sum(
            trial.state.is_finished() and INTERRUPTED not in trial.user_attrs
            for trial in self.study.get_trials(deepcopy=False)
        )

    def run_trials(self, trials: Sequence[Trial], jobs: Sequence[Sequence[str]]) -> None:
        """Run the trials whose cell has no result yet, and report the results of all to the study.

        Args:
            trials: the trials.
            jobs: the overrides of each trial.

        Raises:
            HydraException: if the config of a job cannot be composed.
            ConfigError: if a key is not used by anything, or a metric is missing in the result of a cell.
            SystemExit: if the process received a signal to stop.
        """
        requested: dict[str, list[str]] = {}
        keys = []
        for trial, job in zip(trials, jobs, strict=True):
            try:
                key, overrides = self.sweep.request(job)
            except Exception:  # values that are valid one by one but not together: the trials must not be repeated
                for one in trials:
                    self.discard(one)
                raise
            requested.setdefault(key, [*overrides, f"trial={self.trial_config(trial)}"])
            keys.append(key)
        self.sweep.plan.write(self.sweep.folder)
        over = {cell.identity for cell in read_cells(self.sweep.folder, keys) if cell.state in ("done", "pruned")}
        if missing := [overrides for key, overrides in requested.items() if key not in over]:
            self.sweep.launch(missing)
        for trial, cell in zip(trials, read_cells(self.sweep.folder, keys), strict=True):
            self.tell(trial, cell)

    def trial_config(self, trial: Trial) -> str:
        """Return the config `trial` of a job in Hydra's syntax; null if its trial cannot be pruned."""
        if self.pruner_config is None:
            return "null"
        config = {
            "study": self.study.study_name,
            "number": trial.number,
            "metric": self.metrics[0],
            "pruner": self.pruner_config,
        }
        return _hydra_syntax(config)

    def tell(self, trial: Trial, cell: Cell) -> None:
        """Report the result of a cell to the study.

        Raises:
            ConfigError: if a metric is missing in the result.
        """
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
        """Write the best trial, or the Pareto front, to the log and to `optuna.json`."""
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best: list[FrozenTrial] = self.study.best_trials if complete else []
        for trial in best:
            values = ", ".join(f"{key} {value:.4f}" for key, value in zip(self.metrics, trial.values, strict=True))
            log.info("best: trial %d: %s with %s", trial.number, values, _describe(trial.params))
        states = {
            state.name.lower(): sum(t.state == state for t in self.study.get_trials(deepcopy=False))
            for state in TrialState
        }
        entries = [{"number": trial.number, "params": trial.params, "values": trial.values} for trial in best]
        write_json(self.sweep.folder / SEARCH, {"metrics": self.metrics, "trials": states, "best": entries})


def read_space(sweeper: compat.StudySweeper, arguments: Sequence[str]) -> tuple[Space, dict[str, Any], list[str]]:
    """Return the distributions that are searched, the values that are fixed, and the overrides that delete a key.

    Args:
        sweeper: the sweeper, whose config may name a space.
        arguments: the overrides of the command line, which take precedence. The last override of a key counts.

    Raises:
        ConfigError: if nothing is searched.
    """
    overrides = {_key(override): override for override in (*sweeper.parameters(), *arguments)}
    space, fixed, deletions = compat.read_space(list(overrides.values()))
    if not space:
        hint = "has nothing to search; give a range, such as model.latent_dim=range(2,33)"
        raise ConfigError("hydra/sweeper", "optuna", hint)
    return space, fixed, deletions


def examples(space: Space) -> Iterator[dict[str, Any]]:
    """Yield values of a space such that each key and each choice that is a string occurs at least once.

    Choices that are strings may be options of a config group, whose configs have keys of their own.

    >>> list(examples({"model": CategoricalDistribution(["mlp_vae", "conv_vae"])}))
    [{'model': 'mlp_vae'}, {'model': 'conv_vae'}]
    """
    first = {
        key: one.choices[0] if isinstance(one, CategoricalDistribution) else one.low  # type: ignore[attr-defined]
        for key, one in space.items()
    }
    yield first
    for key, one in space.items():
        if isinstance(one, CategoricalDistribution):
            yield from ({**first, key: other} for other in one.choices[1:] if isinstance(other, str))


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def _describe(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in params.items())


def _hydra_syntax(value: Any) -> str:
    """Return plain containers as Hydra parses them on a command line."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_hydra_syntax(item)}" for key, item in value.items()) + "}"
    return json.dumps(value) if not isinstance(value, str) else f'"{value}"'
