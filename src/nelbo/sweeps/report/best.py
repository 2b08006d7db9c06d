"""The best setting of a sweep, the same for the page, the figures, the results files and the terminal."""

from __future__ import annotations

import math
import shlex
from statistics import fmean
from typing import Any

from nelbo.sweeps.cells.command import config_arguments, single_run_overrides
from nelbo.sweeps.cells.record import Plan
from nelbo.sweeps.cells.values import format_value
from nelbo.sweeps.report.cell_table import SEED, Group, SweepTable, score
from nelbo.sweeps.report.formatting import describe_values, format_mean
from nelbo.sweeps.report.metric_names import NAMES, NELBO, RECONSTRUCTION
from nelbo.terminal.programs import program


def mean_score(group: Group) -> float:
    """Return the mean validation score over seeds in nats, by which settings are ranked; infinite without a score."""
    scores = [value for row in group.rows if row.done and math.isfinite(value := score(row))]
    return fmean(scores) if scores else math.inf


def best_setting(table: SweepTable) -> Group | None:
    """Return the setting with the lowest `mean_score`; None if no cell has a result.

    Args:
        table: cells that are comparable with each other.
    """
    best = min(table.groups, key=mean_score, default=None)
    return best if best is not None and math.isfinite(mean_score(best)) else None


def headline_metric(group: Group) -> str:
    """Return the test metric shown for a setting: negative ELBO, or reconstruction for a model that has no ELBO."""
    return NELBO if group.numbers(NELBO) else RECONSTRUCTION


def describe_setting(group: Group, table: SweepTable) -> str:
    """Return the swept values of a setting as overrides.

    The seed is included where cells differ in their seed but this setting has only one cell.
    """
    values = dict(group.values)
    if len(group.rows) == 1 and any(axis.key == SEED for axis in table.axes):
        values[SEED] = group.rows[0].values[SEED]
    return describe_values(values)


def describe_seeds(group: Group) -> str:
    """Return the number of seeds that a mean is over, such as `2 of 3 seeds`; empty for a setting with one cell."""
    done = sum(row.done for row in group.rows)
    return f"{done} of {len(group.rows)} seeds" if done < len(group.rows) else f"{done} seeds" if done > 1 else ""


def selection_criterion(group: Group) -> str:
    """Return the quantity by which the best setting is chosen, as a phrase."""
    validated = any(key.startswith("val/") for row in group.rows for key in row.metrics)
    images = "the validation images" if validated else "the test images, because there are no validation images"
    mean = "the mean over seeds of " if len(group.rows) > 1 else ""
    return f"{mean}the {NAMES[headline_metric(group)]} on {images}"


def best_line(table: SweepTable) -> str:
    """Return the best setting, its result and the selection criterion in one line; empty if no cell has a result.

    For example `best: model.latent_dim=8: test negative ELBO = 7.60 ± 0.71 nats per image, 2 seeds; chosen by ...`.
    """
    group = best_setting(table)
    if group is None:
        return ""
    line = f"{describe_setting(group, table)}: {describe_result(group)}"
    return f"best: {line}; chosen by {selection_criterion(group)}" if table.swept else line


def describe_result(group: Group) -> str:
    """Return the result of a setting, such as `test negative ELBO = 7.60 ± 0.71 nats per image, 2 seeds`."""
    metric, seeds = headline_metric(group), describe_seeds(group)
    return f"test {NAMES[metric]} = {format_mean(group, metric)} nats per image" + (f", {seeds}" if seeds else "")


def best_entry(table: SweepTable) -> dict[str, Any] | None:
    """Return the entry of the best setting in `results.json`; None if no cell has a result."""
    group = best_setting(table)
    if group is None:
        return None
    metric = headline_metric(group)
    return {
        "setting": dict(group.values),
        "metric": metric,
        "mean": group.mean(metric),
        "sd": group.sd(metric),
        "cells": [row.cell.folder.name for row in group.rows if row.done],
    }


def command(group: Group, table: SweepTable) -> str:
    """Return the shell command that trains a setting again, with all of its seeds and the same config files."""
    train = [*shlex.split(program("train")), *config_arguments(Plan.read(table.sweep).command)]
    overrides = single_run_overrides(group.rows[0].cell.overrides)
    if len(group.rows) == 1:
        return shlex.join([*train, *overrides])
    rest = [override for override in overrides if override.lstrip("+").partition("=")[0] != SEED]
    seeds = ",".join(format_value(row.values[SEED]) for row in group.rows)
    return shlex.join([*train, "-m", *rest, f"{SEED}={seeds}"])
