"""The sweeper of `hydra/sweeper=optuna`: a search that can be resumed, and whose jobs can be pruned."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from nelbo.sweeps import compat

if compat.HAS_OPTUNA:

    class SearchSweeper(compat.StudySweeper):
        """Runs trials of an Optuna study until the study has the requested number of finished trials.

        Args:
            sampler: the config of one of `optuna.samplers`.
            metric: the key of metrics.json that is optimised, or several keys.
            direction: `minimize` or `maximize`, one for each metric or one for all.
            n_trials: the number of finished trials that the study should have in the end.
            n_jobs: the number of trials at once.
            storage: the URL of the study's database, which the jobs receive in an environment variable.
            study_name: the name of the study in the database.
            pruner: the config of one of `optuna.pruners`; None to prune no trial.
            params: the space; overrides of the command line take precedence.
        """

        def __init__(
            self,
            sampler: Any,
            metric: Any,
            direction: Any,
            n_trials: int,
            n_jobs: int,
            storage: str,
            study_name: str,
            pruner: DictConfig | None,
            params: DictConfig | None,
        ) -> None:
            metrics = list(metric) if isinstance(metric, ListConfig) else [metric]
            directions = list(direction) if isinstance(direction, ListConfig) else [direction] * len(metrics)
            super().__init__(sampler, directions, storage, study_name, n_trials, n_jobs, 1.0, None, params)
            self.metrics = metrics
            self.pruner: Any = None if pruner is None else OmegaConf.to_container(pruner)

        def sweep(self, arguments: list[str]) -> None:
            """Run trials until there are enough.

            Args:
                arguments: the overrides of the command line.

            Raises:
                SweepError: if trials failed.
                SystemExit: if the process received a signal to stop.
            """
            from nelbo.sweeps.search import Search
            from nelbo.sweeps.storage import hide
            from nelbo.sweeps.sweep import Sweep

            config, context, launcher = self.setting()
            pruner = instantiate(self.pruner, _execution_whitelist_=("optuna.pruners.*",)) if self.pruner else None
            argv = hide(self.storage, config)
            with Sweep(config, context, launcher, [], argv) as sweep:
                Search(self, sweep, self.metrics, pruner, self.pruner).run(arguments)
