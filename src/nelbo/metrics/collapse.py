"""A warning about posterior collapse, with the remedy to try first.

The order of the remedies was measured on the 8x8 digits and on MNIST; see docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nelbo.errors import number

FEW_STEPS = 2000
"""A run with fewer optimiser steps may be undertrained rather than collapsed."""

NEGLIGIBLE_KL = 0.1
"""KL in nats per image, summed over all units, below which the codes of different images are almost equal."""

OTHER_BETAS = ("nelbo.objectives.BetaTC",)
"""Objectives whose `beta` is not the weight of the KL."""


def final_beta(config: Mapping[str, Any]) -> float | None:
    """Return the weight of the KL at the end of training, or None if the objective has no `beta`.

    Args:
        config: the config of the run; `objective.beta` is a number or a schedule, {name: options}.
    """
    beta = (config.get("objective") or {}).get("beta")
    if isinstance(beta, Mapping):
        (options,) = beta.values()
        beta = options.get("end", 1.0)  # the default of every schedule
    return None if beta is None else number("objective.beta", beta, minimum=0)


def longer_training(steps: int | None) -> str:
    """Return the hint to train longer, or an empty string if the run made enough steps or their number is unknown."""
    if steps is None or steps >= FEW_STEPS:
        return ""
    return f"longer training, trainer.max_steps={FEW_STEPS} (the run made {steps} steps)"


def collapse_warning(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return a warning if the tested model of a run has collapsed: no active unit, or a negligible KL.

    Args:
        metrics: the contents of metrics.json.
        config: the config of the run. Runs on a fraction of the batches, such as `trainer=smoke`, are only trials and
            give no warning.

    Returns:
        One line that ends with the remedy to try first; empty if the model has not collapsed or has no KL.
    """
    kl, active, share = (
        metrics.get("test/kl"),
        metrics.get("test/active_units"),
        config["trainer"].get("overfit_batches") or config["trainer"]["limit_train_batches"],
    )
    if kl is None or (kl >= NEGLIGIBLE_KL and active != 0) or isinstance(share, int) or share < 1:
        return ""
    units = "" if active is None else f", {active:.0f} active units"
    remedy = longer_training(metrics["steps"]) or _after_many_steps(config)
    extent = f"KL {kl:.3f} nats per image{units}"
    return f"the latents have collapsed ({extent}); try first: {remedy}; see docs/evaluation.md"


def _after_many_steps(config: Mapping[str, Any]) -> str:
    beta = final_beta(config)
    if beta is not None and beta > 1 and config["objective"].get("_target_") not in OTHER_BETAS:
        return f"a smaller weight on the KL than objective.beta={beta:g}"
    return f"a lower learning rate than optimizer.lr={config['optimizer'].get('lr')}"
