"""Private and undocumented interfaces of other packages that sweeps and their Hydra plugins use.

Each function, method or class wraps interfaces that its docstring names; the rest of `nelbo.sweeps` and the plugins
call these wrappers only. `tests/sweeps/test_compat.py` has a test for each, which names the package, its installed
version and the interface when an upgrade has changed it.

The module can be imported without the extra `sweep` and with Hydra 1.3: the base classes of the Optuna sweeper and of
the submitit launchers exist only where `HAS_OPTUNA` and `HAS_SUBMITIT` are true. Hydra's own plugins are imported in
functions: when Hydra 1.3 looks for plugins it executes their modules again, which replaces their classes.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import hydra
import hydra.utils
from hydra.core.override_parser.types import Override
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FixedTrial, FrozenTrial, Trial

HAS_OPTUNA = bool(find_spec("optuna") and find_spec("hydra_plugins.hydra_optuna_sweeper"))
NAMES_ARE_LAZY = not hydra.__version__.startswith("1.3.")
"""Whether `hydra.job.override_dirname` is computed when it is read; Hydra 1.3 stores it when it composes."""

HAS_SUBMITIT = bool(find_spec("submitit") and find_spec("hydra_plugins.hydra_submitit_launcher"))


def is_basic_launcher(launcher: Launcher) -> bool:
    """Return whether a launcher is Hydra's own, which runs jobs one after another in this process.

    Wraps Hydra's `hydra._internal.core_plugins.basic_launcher.BasicLauncher`.
    """
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    return isinstance(launcher, BasicLauncher)


def combinations(overrides: list[Override]) -> list[list[str]]:
    """Return the overrides of each job of a grid: all combinations of the values that are swept.

    Wraps `split_arguments` of Hydra's `hydra._internal.core_plugins.basic_sweeper.BasicSweeper`.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    return jobs


def apply_overrides(overrides: list[Override], config: DictConfig) -> None:
    """Apply overrides of values to a composed config, in their order and with the errors of a composition.

    Wraps `_apply_overrides_to_config` of Hydra's `hydra._internal.config_loader_impl.ConfigLoaderImpl`.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)


def outcome(returned: JobReturn) -> Any:
    """Return what the task of a job returned, or the exception that it raised.

    Wraps Hydra's `JobReturn._return_value`; the public `return_value` raises the exception and prints a line.
    """
    return returned._return_value


def allow_instantiation(patterns: Sequence[str]) -> None:
    """Let Hydra instantiate more classes, until the end of `hydra.main`, which restores the list it had before.

    Wraps Hydra's `hydra.utils.execution_whitelist`, which is a context manager and here is entered only. Hydra 1.3 has
    no such list and instantiates any class, so that nothing needs to be added.

    Args:
        patterns: names of classes, such as `mypackage.*`.
    """
    if hasattr(hydra.utils, "execution_whitelist"):
        hydra.utils.execution_whitelist(patterns).__enter__()


def loky_worker() -> int | None:
    """Return the number, from 1, of this worker process of joblib; None if this process is not one.

    Wraps the names of loky's processes, `LokyProcess-1` and so on.
    """
    kind, _, number = multiprocessing.current_process().name.partition("-")
    return int(number) if kind == "LokyProcess" else None


def set_trial_attribute(study: optuna.Study, trial: Trial | FrozenTrial, name: str, value: object) -> None:
    """Set a user attribute of a trial, also where the trial was read from the study and is frozen.

    Wraps Optuna's `Study._storage` and `Trial._trial_id`; `Trial.set_user_attr` is only for trials of this process.
    """
    study._storage.set_trial_user_attr(trial._trial_id, name, value)


def read_space(arguments: list[str]) -> tuple[dict[str, BaseDistribution], dict[str, Any], list[str]]:
    """Return the distributions of overrides that are searched, the values of those that are fixed, and deletions.

    Wraps `create_params_from_overrides` of `hydra_plugins.hydra_optuna_sweeper._impl`.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    return create_params_from_overrides(arguments)


if HAS_OPTUNA:
    from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper

    class StudySweeper(OptunaSweeper):
        """Hydra's Optuna sweeper, with public names for the parts of its implementation.

        Wraps `OptunaSweeper.sweeper`, a `hydra_plugins.hydra_optuna_sweeper._impl.OptunaSweeperImpl`.
        """

        def setting(self) -> tuple[DictConfig, HydraContext, Launcher]:
            """Return what Hydra has set up: the composed config, its context and the launcher."""
            made = self.sweeper
            assert made.config is not None and made.hydra_context is not None and made.launcher is not None
            return made.config, made.hydra_context, made.launcher

        @property
        def sampler(self) -> Any:
            """The sampler of the study; for a grid, a function of the space that makes one."""
            return self.sweeper.sampler

        @property
        def storage(self) -> Any:
            """The URL of the study's database."""
            return self.sweeper.storage

        @property
        def study_name(self) -> str | None:
            """The name of the study in its database."""
            return self.sweeper.study_name

        @property
        def n_trials(self) -> int:
            """The number of trials that the config requests."""
            return self.sweeper.n_trials

        @property
        def n_jobs(self) -> int:
            """The number of trials that the config requests at once."""
            return self.sweeper.n_jobs

        def directions(self) -> list[str]:
            """Return a direction for each metric, as text.

            Wraps `OptunaSweeperImpl._get_directions`.
            """
            return self.sweeper._get_directions()

        def parameters(self) -> list[str]:
            """Return the space that the config names, as overrides.

            Wraps `OptunaSweeperImpl._process_searchspace_config` and `._parse_sweeper_params_config`.
            """
            self.sweeper._process_searchspace_config()
            return self.sweeper._parse_sweeper_params_config()

        def suggest(
            self,
            trials: Sequence[Trial | FixedTrial],
            space: dict[str, BaseDistribution],
            fixed: dict[str, Any],
            deletions: list[str],
        ) -> Sequence[Sequence[str]]:
            """Let trials choose values of a space, and return the overrides of each.

            Wraps `OptunaSweeperImpl._configure_trials`.

            Args:
                trials: of a study, or of fixed values.
                space: the distributions, by key.
                fixed: the values of keys that are not searched.
                deletions: overrides that delete a key.
            """
            chosen: Any = list(trials)
            return self.sweeper._configure_trials(chosen, space, fixed, deletions)


if HAS_SUBMITIT:
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher

    class SubmititLauncher(BaseSubmititLauncher):
        """Hydra's launcher for submitit, with public names for the steps of its `launch`.

        Wraps `hydra_plugins.hydra_submitit_launcher.submitit_launcher.BaseSubmititLauncher`, whose `params` are the
        launcher's config, and `hydra_plugins.hydra_submitit_launcher.config.BaseQueueConf`.
        """

        def job_arguments(self, overrides: Sequence[str], number: int) -> tuple[Any, ...]:
            """Return the arguments with which submitit calls this launcher to run a job.

            Wraps the signature of `BaseSubmititLauncher.__call__`.

            Args:
                overrides: the overrides of the job.
                number: the number of the job in its sweep.
            """
            return list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state()

        @staticmethod
        def shared_options() -> set[str]:
            """Return the names of the options that all engines of submitit have; others get their engine's prefix."""
            return {field.name for field in dataclasses.fields(BaseQueueConf)}
