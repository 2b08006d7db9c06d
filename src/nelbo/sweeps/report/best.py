"""The best setting of a sweep: one answer for the page, the figures, the tables and the terminal."""

from __future__ import annotations

import math
import shlex
from statistics import fmean
from typing import Any

from nelbo.sweeps.cells.command import alone, config_words
from nelbo.sweeps.cells.record import Plan
from nelbo.sweeps.cells.values import show
from nelbo.sweeps.report.cell_table import SEED, Group, SweepTable, score
from nelbo.sweeps.report.results_file import DISTORTION, NELBO
from nelbo.sweeps.report.scales import place, spread


def mean_score(group: Group) -> float:
    """What settings are ranked by, in nats: the mean over seeds of the validation score; infinite without one."""
    scores = [value for row in group.rows if row.done and math.isfinite(value := score(row))]
    return fmean(scores) if scores else math.inf


def best_setting(table: SweepTable) -> Group | None:
    """The setting with the lowest `mean_score`; None if no cell has a result. Its cells must be comparable."""
    best = min(table.groups, key=mean_score, default=None)
    return best if best is not None and math.isfinite(mean_score(best)) else None


def metric_of(group: Group) -> str:
    """The test metric that is shown of a setting: the negative ELBO, or the distortion of a model that has none."""
    return NELBO if group.numbers(NELBO) else DISTORTION


def setting(group: Group, table: SweepTable) -> str:
    """What was swept, as it would be typed; the seed too, where it differs but this setting has one cell only."""
    values = dict(group.values)
    if len(group.rows) == 1 and any(axis.key == SEED for axis in table.axes):
        values[SEED] = group.rows[0].values[SEED]
    return place(values)


def seeds(group: Group) -> str:
    """Over how many seeds a mean is; empty for a setting with one cell."""
    done = sum(row.done for row in group.rows)
    return f"{done} of {len(group.rows)} seeds" if done < len(group.rows) else f"{done} seeds" if done > 1 else ""


def judged_by(group: Group) -> str:
    """What the setting was chosen by."""
    validated = any(key.startswith("val/") for row in group.rows for key in row.metrics)
    images = "validation images" if validated else "test images, for want of a validation set"
    mean = "the mean over seeds of " if len(group.rows) > 1 else ""
    return f"{mean}{metric_of(group).partition('/')[2]} on {images}"


def best_line(table: SweepTable) -> str:
    """The best setting in a line of text: `best: model.latent_dim=8: test/nelbo = 7.60 ± 0.71 nats per image, 2 seeds`.

    Empty if no cell has a result.
    """
    group = best_setting(table)
    if group is None:
        return ""
    line = f"{setting(group, table)}: {result(group)}"
    return f"best: {line}; chosen by {judged_by(group)}" if table.swept else line


def result(group: Group) -> str:
    """The result of a setting: `test/nelbo = 7.60 ± 0.71 nats per image, 2 seeds`."""
    metric, count = metric_of(group), seeds(group)
    return f"{metric} = {spread(group, metric)} nats per image" + (f", {count}" if count else "")


def plain_best(table: SweepTable) -> dict[str, Any] | None:
    """The best setting for `results.json`; None if no cell has a result."""
    group = best_setting(table)
    if group is None:
        return None
    metric = metric_of(group)
    return {
        "setting": dict(group.values),
        "metric": metric,
        "mean": group.mean(metric),
        "sd": group.sd(metric),
        "cells": [row.cell.folder.name for row in group.rows if row.done],
    }


def command(group: Group, table: SweepTable) -> str:
    """The command that runs a setting again, with all of its seeds, and with the places of configs that it needs."""
    train = ["python", "train.py", *config_words(Plan.read(table.sweep).command)]
    overrides = alone(group.rows[0].cell.overrides)
    if len(group.rows) == 1:
        return shlex.join([*train, *overrides])
    rest = [override for override in overrides if override.lstrip("+").partition("=")[0] != SEED]
    replicates = ",".join(show(row.values[SEED]) for row in group.rows)
    return shlex.join([*train, "-m", *rest, f"{SEED}={replicates}"])
