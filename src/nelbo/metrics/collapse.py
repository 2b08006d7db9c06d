"""Whether the latents of a run carry anything, and what to try first if they do not.

What comes first was measured on the 8x8 digits and on MNIST: docs/evaluation.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nelbo.errors import number

FEW_STEPS = 2000
"""A run of fewer optimiser steps may just not have come so far."""

NEGLIGIBLE_KL = 0.1
"""Nats an image, in all units together: such codes hardly differ from image to image."""

OTHER_BETAS = ("nelbo.objectives.BetaTC",)
"""Objectives whose beta does not weigh the KL."""


def final_beta(config: Mapping[str, Any]) -> float | None:
    """The weight on the KL at the end of training: a number, or where its schedule, {name: options}, ends."""
    beta = (config.get("objective") or {}).get("beta")
    if isinstance(beta, Mapping):
        (options,) = beta.values()
        beta = options.get("end", 1.0)  # where a schedule that does not say ends
    return None if beta is None else number("objective.beta", beta, minimum=0)


def longer_training(steps: int | None) -> str:
    """The remedy for a run of few steps, in words of the config; empty if they were many, or are not known."""
    if steps is None or steps >= FEW_STEPS:
        return ""
    return f"longer training, trainer.max_steps={FEW_STEPS} (the run made {steps} steps)"


def collapse_warning(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """One line about a run whose tested model has collapsed: no active unit, or a negligible KL.

    Args:
        metrics: of the run, as metrics.json has them.
        config: of the run. One that takes a share of the batches, as `trainer=smoke`, is for trying things.

    Returns:
        The line, with the remedy to try first; empty for a model that has not collapsed, or that has no KL.
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
    return f"the latents have collapsed (KL {kl:.3f} nats an image{units}); try first: {remedy}; docs/evaluation.md"


def _after_many_steps(config: Mapping[str, Any]) -> str:
    beta = final_beta(config)
    if beta is not None and beta > 1 and config["objective"].get("_target_") not in OTHER_BETAS:
        return f"a smaller weight on the KL than objective.beta={beta:g}"
    return f"a lower learning rate than optimizer.lr={config['optimizer'].get('lr')}"
