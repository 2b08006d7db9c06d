"""The results of a model at settings that it was trained for.

Shapes: N images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from nelbo.config.keys import select
from nelbo.errors import ConfigError
from nelbo.evaluation.measure import Findings
from nelbo.evaluation.passes import ELBO, ActiveUnits
from nelbo.finished.run import FinishedRun
from nelbo.models import Setting, axes_of
from nelbo.schedules import as_schedule

KEYS = {"beta": "objective.beta", "latent_dim": "model.latent_dim"}
"""The config key that a setting stands for, by its name."""

METRICS = {"nelbo": "nelbo", "rate": "kl", "distortion": "reconstruction"}
"""The names in metrics.json of what the measure of the ELBO gives."""


@dataclass(frozen=True)
class SettingResult:
    """The results of one setting.

    Args:
        setting: the setting.
        metrics: by the names that metrics.json has, such as `test/kl`.
        reconstruction: -log p(x|z) of each test image in nats, (N,).
        kl: KL(q(z|x) || p(z)) of each, (N,).
    """

    setting: Setting
    metrics: dict[str, float]
    reconstruction: Tensor
    kl: Tensor

    def objective(self, beta: float) -> Tensor:
        """Return reconstruction + beta KL of each image, (N,), in nats."""
        return self.reconstruction + beta * self.kl


def check_run(run: FinishedRun, key: str = "run") -> None:
    """Check that a run was trained for many settings.

    Args:
        run: the run.
        key: the config key to name in errors.

    Raises:
        ConfigError: if it was not.
    """
    if not axes_of(run.model):
        hint = "was not trained for many settings; train it with rates=many, nesting=uniform or both"
        raise ConfigError(key, run.folder, hint, located=True)


def final_beta(config: Mapping[str, Any]) -> float | None:
    """Return the weight of the KL at the end of a training; None if its objective has none.

    Args:
        config: the config of the run, in plain containers.
    """
    value = select(config, KEYS["beta"])
    return None if value is None else as_schedule(KEYS["beta"], value, minimum=0)(math.inf)


def values_of(run: FinishedRun, setting: Setting) -> dict[str, float]:
    """Return the values of config keys that a training for a setting alone has.

    `objective.beta` of the run multiplies the beta of each image.

    Args:
        run: the run that was trained for many settings.
        setting: the setting.
    """
    weight = final_beta(run.config)
    factors = {"beta": 1.0 if weight is None else weight}
    return {KEYS[name]: value * factors[name] if name in factors else value for name, value in setting.items()}


def results_at(
    run: FinishedRun,
    settings: Sequence[Setting],
    *,
    splits: Sequence[str],
    limit: int | None,
    seed: int,
    watch: Callable[[], None] = lambda: None,
) -> list[SettingResult]:
    """Measure a run at settings, with the same images and the same noise.

    Args:
        run: a run that was trained for many settings.
        settings: the settings.
        splits: which splits to measure; the first is "test".
        limit: largest number of images of each split, evenly spread; None for all.
        seed: of the noise.
        watch: called after each setting.

    Raises:
        ConfigError: if the model was not trained for a setting.
        DataError: if the data cannot be loaded, or are not those that the model was trained on.
    """
    subjects = {split: run.subject(split=split, device="auto", seed=seed) for split in splits}
    results = []
    for setting in settings:
        metrics: dict[str, float] = {}
        findings: dict[str, Findings] = {}
        for split, subject in subjects.items():
            bound = replace(subject, model=subject.model.at(**setting))
            findings[split] = ELBO(num_samples=1, limit=limit)(bound)
            values = findings[split].values
            metrics |= {f"{split}/{name}": float(values[key]) for key, name in METRICS.items()}
            if split == "test":
                metrics["test/active_units"] = float(ActiveUnits(limit=limit)(bound).values["active_units"])
        tested = findings["test"].per_image
        results.append(SettingResult(setting, metrics, tested["distortion"], tested["rate"]))
        watch()
    return results


def splits_of(run: FinishedRun) -> list[str]:
    """Return the test set and, if there is one, the validation set."""
    return ["test", "val"] if len(run.data.splits["val"]) else ["test"]
