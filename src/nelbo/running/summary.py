"""The results of a run, as metrics.json has them."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from nelbo.config.identity import identity
from nelbo.errors import Diverged
from nelbo.metrics.collapse import collapse_warning
from nelbo.models.conditioning import given_of
from nelbo.running.assemble import Parts
from nelbo.running.fit import Fitted
from nelbo.training.devices import chosen_precision
from nelbo.training.weights import summary_for_metrics

log = logging.getLogger(__name__)


def summarise(parts: Parts, fitted: Fitted) -> dict[str, Any]:
    """Return what metrics.json says of a run.

    Args:
        parts: of the run.
        fitted: the results of training and testing.

    Raises:
        Diverged: if one of the values is not finite.
    """
    model, record = parts.module.model, parts.record
    metrics: dict[str, Any] = {
        **fitted.best,
        **fitted.tested,
        **parts.data.provenance(),
        **given_of(parts.module.model),
        "identity": identity(parts.identifying),
        "seed": parts.plain["seed"],
        "threads": torch.get_num_threads(),
        "precision": chosen_precision(parts.plain["trainer"]),
        **fitted.ending,
        **fitted.counts,
        "train_seconds": fitted.seconds,
        "train_cpu_seconds": fitted.cpu_seconds,
        "images_per_second": fitted.images_per_second,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "environment": record["environment"],
    }
    if record["resumed"]:
        metrics["resumed"] = record["resumed"]
    if origin := record.get("init_from"):
        metrics["init_from"] = summary_for_metrics(origin)
    if "test/bits_per_dim" in metrics:  # both count bits of stored pixels, but the second bounds them once more
        metrics["bits_per_dim_by"] = "uniform dequantisation" if parts.data.dequantized_levels else "probabilities"
    diverged = [key for key, value in metrics.items() if isinstance(value, float) and not math.isfinite(value)]
    if diverged:
        raise Diverged(f"training diverged: {diverged[0]} is {metrics[diverged[0]]}; lower optimizer.lr")
    if line := collapse_warning(metrics, parts.plain):
        log.warning(line)
    return metrics
