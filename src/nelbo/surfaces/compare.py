"""A run that was trained for many settings beside the cells of a sweep, which were trained for one setting each.

Shapes: N images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nelbo.config.comparison import incomparable
from nelbo.config.keys import select
from nelbo.directories.names import METRICS
from nelbo.errors import ConfigError
from nelbo.evaluation.passes import ELBO
from nelbo.files import read_json
from nelbo.finished.run import FinishedRun
from nelbo.models import axes_of, settings_of
from nelbo.surfaces.measured import KEYS, SettingResult, check_run, results_at
from nelbo.surfaces.write import SEED, shown
from nelbo.sweeps.cells.values import is_number
from nelbo.sweeps.report.beside import BESIDE, Beside, Curve, Regret
from nelbo.sweeps.report.cell_table import Row, read_table
from nelbo.sweeps.report.metric_names import KL, RECONSTRUCTION

MOST_IMAGES = 1000
"""How many test images are measured at the settings of a curve that no cell has."""

KEY = "with"


def write_beside(sweep: Path, run: FinishedRun, allow: Sequence[str] = (), *, limit: int | None = None) -> Path:
    """Compare a run with all cells of a sweep, and write the comparison into the sweep's directory.

    The regret of a cell is the run's reconstruction + beta KL at the cell's setting less that of the cell, divided by
    the larger of 1 and beta; on the same test images with the same noise.

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
    check_run(run)
    rows = [row for row in read_table(sweep).done if KL in row.metrics and RECONSTRUCTION in row.metrics]
    settings = {row.cell.folder.name: setting_of(row, run) for row in rows}
    apart = incomparable({"the run": run.provenance, **{row.cell.folder.name: row.metrics for row in rows}})
    if apart:
        raise ConfigError(KEY, run.folder, apart, located=True)
    matched = [row for row in rows if settings[row.cell.folder.name] is not None]
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
        curves=tuple(curves(run, matched)),
        left_out=len(rows) - len(matched),
        images=min(limit or len(run.data.splits["test"]), len(run.data.splits["test"])),
    )
    beside.write(sweep)
    return sweep / BESIDE


def setting_of(row: Row, run: FinishedRun) -> dict[str, float] | None:
    """Return the setting of a run that a cell was trained for; None if the run was not trained for it."""
    axes = axes_of(run.model)
    values = {name: select(row.cell.config, key) for name, key in KEYS.items()}
    fixed = {name: select(run.config, key) for name, key in KEYS.items() if name not in axes}
    if not all(map(is_number, values.values())) or any(values[name] != value for name, value in fixed.items()):
        return None
    setting = {name: values[name] for name in axes}
    try:
        run.model.at(**setting)
    except ConfigError:
        return None
    return setting


def regret(row: Row, setting: dict[str, float], run: FinishedRun, allow: Sequence[str], limit: int | None) -> Regret:
    """Return the regret of a run at the setting of a cell, with its standard error over images, in nats."""
    beta = float(select(row.cell.config, KEYS["beta"]))
    (ours,) = results_at(run, [setting], splits=["test"], limit=limit, seed=SEED)
    cell = FinishedRun.open(row.cell.folder, allow)
    findings = ELBO(num_samples=1, limit=limit)(cell.subject(split="test", device="auto", seed=SEED))
    own = SettingResult(setting, {}, findings.per_image["distortion"], findings.per_image["rate"])
    differences = (ours.objective(beta) - own.objective(beta)) / max(1.0, beta)
    return Regret(
        cell=row.cell.folder.name,
        setting={KEYS[name]: value for name, value in setting.items()},
        value=float(differences.mean()),
        error=float(differences.std() / math.sqrt(len(differences))),
        rate=float(ours.kl.mean()),
        distortion=float(ours.reconstruction.mean()),
        cell_rate=float(own.kl.mean()),
        cell_distortion=float(own.reconstruction.mean()),
    )


def curves(run: FinishedRun, rows: Sequence[Row]) -> list[Curve]:
    """Return rate and distortion of a run over beta, for each number of latents of the cells.

    Without many betas it is one curve, over the number of latents.
    """
    axes = axes_of(run.model)
    if "beta" in axes and "latent_dim" in axes:
        axes["latent_dim"] = tuple(sorted({int(select(row.cell.config, KEYS["latent_dim"])) for row in rows}))
    results = results_at(run, settings_of(axes), splits=["test"], limit=MOST_IMAGES, seed=SEED)
    lines: dict[float | None, list[tuple[float, float]]] = {}
    for result in results:
        latents = result.setting.get("latent_dim") if "beta" in axes else None
        point = (result.metrics[KL], result.metrics[RECONSTRUCTION])
        lines.setdefault(latents, []).append(point)
    return [Curve(latents, tuple(points)) for latents, points in lines.items()]
