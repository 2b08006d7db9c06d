"""hydra/sweeper=optuna: Hydra's own, but resumable to a total; its jobs know their trial and may be pruned."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from nelbo.sweeps import compat

if compat.HAS_OPTUNA:

    class SearchSweeper(compat.StudySweeper):
        """Trials of an Optuna study.

        Args:
            sampler: of `optuna.samplers`.
            metric: what a trial is judged by, a key of metrics.json, or several.
            direction: `minimize` or `maximize`, one for each metric or one for all.
            n_trials: how many finished trials the study shall have.
            n_jobs: how many run at once.
            storage: the URL of its database, which reaches the jobs by an environment variable.
            study_name: in it.
            pruner: the plain config of one of `optuna.pruners`; None for none.
            params: the space, beside the command line's overrides, which win.
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

            Raises:
                SweepError: if trials failed.
                SystemExit: if it was told to stop.
            """
            from nelbo.sweeps.search import Search
            from nelbo.sweeps.storage import hide
            from nelbo.sweeps.sweep import Sweep

            config, context, launcher = self.setting()
            pruner = instantiate(self.pruner, _execution_whitelist_=("optuna.pruners.*",)) if self.pruner else None
            words = hide(self.storage, config)
            with Sweep(config, context, launcher, [], words) as sweep:
                Search(self, sweep, self.metrics, pruner, self.pruner).run(arguments)
