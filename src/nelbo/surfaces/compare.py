"""A run that was trained for many settings beside the cells of a sweep, which were trained for one setting each.

Shapes: N images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nelbo.config.comparison import incomparable
from nelbo.config.keys import select
from nelbo.directories.names import METRICS
from nelbo.errors import ConfigError
from nelbo.evaluation.passes import ELBO
from nelbo.files import read_json
from nelbo.finished.run import FinishedRun
from nelbo.models import axes_of, settings_of
from nelbo.surfaces.measured import KEYS, SettingResult, check_run, final_beta, results_at, values_of
from nelbo.surfaces.write import SEED, shown
from nelbo.sweeps.cells.values import is_number
from nelbo.sweeps.report.beside import BESIDE, Beside, Curve, Regret
from nelbo.sweeps.report.cell_table import Row, read_table
from nelbo.sweeps.report.metric_names import KL, RECONSTRUCTION

MOST_IMAGES = 1000
"""How many test images are measured at the settings of a curve that no cell has."""

KEY = "with"
OBJECTIVE, OBJECTIVES = "objective._target_", ("nelbo.objectives.NegativeELBO", "nelbo.objectives.STL")
"""The objectives that are reconstruction + beta KL."""

LIKELIHOOD = "model.likelihood"


def write_beside(sweep: Path, run: FinishedRun, allow: Sequence[str] = (), *, limit: int | None = None) -> Path:
    """Compare a run with all cells of a sweep, and write the comparison into the sweep's directory.

    The regret of a cell is the run's reconstruction + beta KL at the cell's setting less that of the cell, divided by
    the larger of 1 and beta, on the same test images. The noise is the same if the number of latents is.

    Args:
        sweep: the directory of the sweep.
        run: a run that was trained for many settings.
        allow: packages of the user's own that the cells' models and data may be made of.
        limit: largest number of test images, evenly spread; None for all.

    Returns:
        The file, which the report of the sweep reads.

    Raises:
        SweepError: if the directory is not one of a sweep.
        ConfigError: if the run was not trained for many settings, has other data, or for none of the cells' settings.
    """
    check_run(run, KEY)
    rows = [row for row in read_table(sweep).done if KL in row.metrics and RECONSTRUCTION in row.metrics]
    settings = {row.cell.folder.name: setting_of(row, run) for row in rows}
    apart = incomparable({"the run": run.provenance, **{row.cell.folder.name: row.metrics for row in rows}})
    if apart:
        raise ConfigError(KEY, run.folder, apart, located=True)
    if not rows:
        raise ConfigError(KEY, run.folder, f"no cell of {sweep} has a KL and a reconstruction yet", located=True)
    matched = [row for row in rows if settings[row.cell.folder.name] is not None]
    for row in matched:
        if (own := select(row.cell.config, LIKELIHOOD)) != (ours := select(run.config, LIKELIHOOD)):
            hint = f"has another likelihood ({name_of(ours)}) than {row.cell.folder.name} ({name_of(own)})"
            raise ConfigError(KEY, run.folder, hint, located=True)
    if not matched:
        hint = f"was trained for none of the settings of {sweep}: beta and number of latents must be among its own"
        raise ConfigError(KEY, run.folder, hint, located=True)
    regrets = [regret(row, settings[row.cell.folder.name] or {}, run, allow, limit) for row in matched]
    trained = read_json(run.folder / METRICS)
    seconds = [row.metrics.get("train_cpu_seconds") for row in matched]
    beside = Beside(
        run=shown(run.folder),
        seconds=trained.get("train_cpu_seconds"),
        cell_seconds=sum(filter(is_number, seconds)) if all(map(is_number, seconds)) else None,
        regrets=tuple(regrets),
        curves=tuple(curves(run, matched, limit or MOST_IMAGES)),
        left_out=len(rows) - len(matched),
        images=at_most(limit, run),
        curve_images=at_most(limit if limit else MOST_IMAGES, run),
    )
    beside.write(sweep)
    return sweep / BESIDE


def setting_of(row: Row, run: FinishedRun) -> dict[str, float] | None:
    """Return the setting of a run that a cell was trained for; None if the run was not trained for it."""
    axes = axes_of(run.model)
    if select(row.cell.config, OBJECTIVE) not in OBJECTIVES:  # of others, beta means something else
        return None
    own, ours = values_at_end(row.cell.config), values_at_end(run.config)
    if not all(map(is_number, own.values())) or any(own[name] != ours[name] for name in KEYS if name not in axes):
        return None
    setting = {name: own[name] for name in axes}
    if "beta" in setting:
        setting["beta"] /= ours["beta"] or 1.0  # the run's own multiplies the beta of each image
    try:
        run.model.at(**setting)
    except ConfigError:
        return None
    return setting


def values_at_end(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of latents and beta of a config, of a schedule its final value."""
    return {"latent_dim": select(config, KEYS["latent_dim"]), "beta": final_beta(config)}


def name_of(likelihood: Any) -> str:
    """Return the class of a likelihood in a config, for errors."""
    return str(select(likelihood or {}, "_target_")).rpartition(".")[-1]


def at_most(limit: int | None, run: FinishedRun) -> int:
    """Return how many test images are measured."""
    total = len(run.data.splits["test"])
    return min(limit or total, total)


def regret(row: Row, setting: dict[str, float], run: FinishedRun, allow: Sequence[str], limit: int | None) -> Regret:
    """Return the regret of a run at the setting of a cell, with its standard error over images, in nats."""
    beta = final_beta(row.cell.config)
    assert beta is not None
    (ours,) = results_at(run, [setting], splits=["test"], limit=limit, seed=SEED)
    cell = FinishedRun.open(row.cell.folder, allow)
    findings = ELBO(num_samples=1, limit=limit)(cell.subject(split="test", device="auto", seed=SEED))
    own = SettingResult(setting, {}, findings.per_image["distortion"], findings.per_image["rate"])
    differences = (ours.objective(beta) - own.objective(beta)) / max(1.0, beta)
    return Regret(
        cell=row.cell.folder.name,
        identity=row.cell.identity,
        setting=values_of(run, setting),
        value=float(differences.mean()),
        error=float(differences.std() / math.sqrt(len(differences))),
        rate=float(ours.kl.mean()),
        distortion=float(ours.reconstruction.mean()),
        cell_rate=float(own.kl.mean()),
        cell_distortion=float(own.reconstruction.mean()),
    )


def curves(run: FinishedRun, rows: Sequence[Row], limit: int) -> list[Curve]:
    """Return rate and distortion of a run over beta, for each number of latents of the cells.

    Without many betas it is one curve, over the number of latents.
    """
    axes = axes_of(run.model)
    if "beta" in axes and "latent_dim" in axes:
        axes["latent_dim"] = tuple(sorted({int(select(row.cell.config, KEYS["latent_dim"])) for row in rows}))
    results = results_at(run, settings_of(axes), splits=["test"], limit=limit, seed=SEED)
    lines: dict[float | None, list[tuple[float, float]]] = {}
    for result in results:
        latents = result.setting.get("latent_dim") if "beta" in axes else None
        point = (result.metrics[KL], result.metrics[RECONSTRUCTION])
        lines.setdefault(latents, []).append(point)
    return [Curve(latents, tuple(points)) for latents, points in lines.items()]
