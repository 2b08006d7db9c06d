"""The report of a run that was trained for many settings: a directory like that of a sweep, with a cell for each.

The report of sweeps (`nelbo.sweeps.report`) reads it as it reads that of a sweep.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nelbo.directories.names import METRICS
from nelbo.errors import ConfigError
from nelbo.files import read_json, write_json
from nelbo.finished.run import FinishedRun
from nelbo.models import Model, Setting, axes_of, settings_of
from nelbo.numerics.randomness import isolated
from nelbo.running.directory import refuse_files
from nelbo.running.first_command import first_overrides, first_places
from nelbo.surfaces.measured import KEYS, SettingResult, check_run, results_at, splits_of, values_of
from nelbo.sweeps.cells.names import cell_name
from nelbo.sweeps.cells.record import PLAN, RECORD, Plan, read_cells
from nelbo.sweeps.cells.values import format_exactly
from nelbo.sweeps.report.origin import ORIGIN, Origin, OriginPicture
from nelbo.sweeps.report.write import HTML, write_report
from nelbo.sweeps.sweep import WRITTEN
from nelbo.views.codes import modes
from nelbo.views.grids import grid, save_png
from nelbo.views.settings import labelled, reconstructions, samples

FOLDER = "surface"
"""The name of the directory in that of the run."""

ACROSS = "across_settings"
"""The name of the folder with pictures of all settings together."""

SEED = 0
STRIP, ROWS = 8, 4
MOST_IMAGES = 1000
"""How many images of each split are measured by default."""

FACTS = ("data", "protocol", "train_images", "val_images", "test_images", "split_seed", "data_sha256")
BEST = "best.ckpt"
OF_TRAINING = ("seed", "threads", "precision", "epochs", "steps", "checkpoint_epoch", "environment")
"""What the cells take from metrics.json of the run."""


def write_surface(
    run: FinishedRun,
    folder: Path | None = None,
    axes: Mapping[str, Sequence[float]] | None = None,
    *,
    limit: int | None = MOST_IMAGES,
    watch: Callable[[], None] = lambda: None,
) -> Path:
    """Measure a run at many settings and write the report, in place of an earlier one.

    An earlier one stays until the run is measured; whether a later one was cut off, `is_complete` says.

    Args:
        run: a run that was trained for many settings.
        folder: the directory of the report; by default `surface` in that of the run.
        axes: the values of each setting by name; by default those of `axes_of`.
        limit: largest number of images of each split, evenly spread; None for all.
        watch: called after each setting that was measured.

    Returns:
        The file of the page.

    Raises:
        ConfigError: if the run was not trained for many settings or not for one of `axes`, or the directory holds
            something else.
        DataError: if the data cannot be loaded, or are not those that the model was trained on.
    """
    check_run(run)
    folder = folder or run.folder / FOLDER
    axes = axes or axes_of(run.model)
    refuse_others(folder)
    results = results_at(run, settings_of(axes), splits=splits_of(run), limit=limit, seed=SEED, watch=watch)
    x = run.data.examples(STRIP).x
    plan = Plan(command=first_places(run.folder))
    common = own_overrides(run, axes)
    names = {}
    for result in results:
        job = overrides_of(values_of(run, result.setting))
        identity = setting_identity(run, result.setting, limit)
        names[identity] = plan.add(identity, cell_name(job, list(KEYS.values()), identity), [*common, *job])
    plan.newest = list(plan.cells)
    remove_earlier(folder)
    write_origin(run, folder, axes, limit)
    plan.write(folder)
    for result, (identity, name) in zip(results, names.items(), strict=True):
        write_strips(run.model.at(**result.setting), x, folder / name)
        write_cell(run, result, folder / name, identity)
    return write_report(folder, run.allow)


def is_complete(folder: Path, checkpoint: str) -> bool:
    """Return whether a directory has the whole report of a checkpoint; writing it may have been cut off.

    Args:
        folder: the directory.
        checkpoint: the SHA-256 digest of the checkpoint.
    """
    origin = Origin.read(folder)
    if origin is None or origin.checkpoint != checkpoint or not (folder / HTML).exists():
        return False
    return bool(Plan.read(folder).cells) and all(cell.state == "done" for cell in read_cells(folder))


def is_written(run: FinishedRun, folder: Path, axes: Mapping[str, Sequence[float]], *, limit: int | None) -> bool:
    """Return whether a directory has the whole report that `write_surface` writes with the same arguments."""
    origin = Origin.read(folder)
    is_there = origin is not None and origin.run == str(run.folder)  # the report names the run's directory
    wanted = {setting_identity(run, setting, limit) for setting in settings_of(axes)}
    return is_there and is_complete(folder, run.sha256) and wanted == set(Plan.read(folder).cells)


def refuse_others(folder: Path) -> None:
    """Refuse the directory of a sweep, whose cells are trainings, and files that are not of such a report.

    Raises:
        ConfigError: if that is what it is, or it holds some.
    """
    if (folder / ORIGIN).exists():
        return
    if (folder / PLAN).exists():
        raise ConfigError("run", folder, "holds a sweep; give another directory", located=True)
    refuse_files(folder, (*WRITTEN, ACROSS), key="run")


def remove_earlier(folder: Path) -> None:
    """Remove the cells and the page of an earlier report from its directory."""
    (folder / HTML).unlink(missing_ok=True)
    for entry in Plan.read(folder).cells.values():
        shutil.rmtree(folder / entry["name"], ignore_errors=True)


def own_overrides(run: FinishedRun, axes: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the overrides of a training for one setting, but for the setting: those of the run without its groups.

    Args:
        run: the run.
        axes: the values of each setting by name.

    Raises:
        CheckpointError: if the run's directory does not record them.
    """
    own = ("rates", "nesting", "model.rates", "model.nesting", *(KEYS[name] for name in axes))
    keys = {override: override.partition("=")[0].lstrip("+~") for override in first_overrides(run.folder)}
    kept = [
        override for override, key in keys.items() if not any(key == one or key.startswith(f"{one}.") for one in own)
    ]
    return [*kept, "rates=none", "nesting=none"]


def overrides_of(values: Mapping[str, float]) -> list[str]:
    """Return values of config keys as overrides of a training command.

    Example:
        >>> overrides_of({"model.latent_dim": 8, "objective.beta": 0.5})
        ['model.latent_dim=8', 'objective.beta=0.5']
    """
    return [f"{key}={format_exactly(value)}" for key, value in values.items()]


def setting_identity(run: FinishedRun, setting: Setting, limit: int | None) -> str:
    """Return sixteen hexadecimal digits that identify the results of a setting of a checkpoint.

    Args:
        run: the run.
        setting: the setting.
        limit: largest number of images of each split; None for all.
    """
    text = json.dumps([run.sha256, dict(setting), limit], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_cell(run: FinishedRun, result: SettingResult, folder: Path, identity: str) -> None:
    """Write the record and the metrics of a setting."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = read_json(run.folder / METRICS)
    known = (*FACTS, *(OF_TRAINING if run.file.name == BEST else ()))  # metrics.json is of the best checkpoint
    facts = {key: value for key in known if (value := trained.get(key)) is not None}
    own = {"test/images": len(result.kl), "trained_in": shown(run.folder), "identity": identity}
    record = {"identity": identity, "state": "done", "config": config_at(run, result.setting)}
    write_json(folder / RECORD, record)
    write_json(folder / METRICS, {**result.metrics, **facts, **own})


def config_at(run: FinishedRun, setting: Setting) -> dict[str, Any]:
    """Return the config of a run that is trained for a setting alone."""
    config = copy.deepcopy(dict(run.config))
    for name, value in values_of(run, setting).items():
        *groups, key = name.split(".")
        holder = config
        for group in groups:
            holder = holder[group]
        holder[key] = value
    for part in ("rates", "nesting"):
        config["model"].pop(part, None)
    return config


def shown(path: Path) -> str:
    """Return a path for people: relative to the current directory if it lies in it."""
    inside = path.resolve().is_relative_to(Path.cwd())
    return os.path.relpath(path) if inside else str(path)


def write_strips(model: Model, x: torch.Tensor, folder: Path) -> None:
    """Write samples and reconstructions of a setting, as a run does.

    Args:
        model: the model at the setting.
        x: images, (N, C, H, W).
        folder: the directory of the cell.
    """
    x = x.to(next(model.parameters()).device)
    with torch.no_grad(), isolated(SEED):
        drawn = model.generate(len(x)).mean.unsqueeze(0)
        pairs = torch.stack([x, model.decode(*modes(model, x)).mean])
    for name, images in (("samples", drawn), ("reconstructions", pairs)):
        save_png(grid(images, values=model.value_range), folder / "pictures" / f"{name}.png")


def write_origin(run: FinishedRun, folder: Path, axes: Mapping[str, Sequence[float]], limit: int | None) -> None:
    """Write what the report says about the origin of its cells, with pictures of an image across all settings."""
    trained = read_json(run.folder / METRICS)
    x = run.data.examples(ROWS).x.to(next(run.model.parameters()).device)
    which = "one held-out image" if len(axes) > 1 else f"{len(x)} held-out images"
    texts = {
        "reconstructions": ("Reconstructions at each setting", f"The reconstructions of {which}, from the mode of q."),
        "samples": ("Samples at each setting", "Samples from the prior; all settings decode the same noise."),
    }
    images = {
        "reconstructions": reconstructions(run.model, x, axes),
        "samples": samples(run.model, len(x), axes, SEED),
    }
    pictures = []
    for name, drawn in images.items():
        file = folder / ACROSS / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        labelled(drawn, axes, run.model.value_range).savefig(file)
        pictures.append(OriginPicture(str(file.relative_to(folder)), *texts[name]))
    seconds = trained.get("train_cpu_seconds")
    time = f", {seconds:,.0f} CPU seconds" if seconds else ""
    total, held_out = len(run.data.splits["test"]), len(run.data.splits["val"])
    chosen = f", and of {min(limit or held_out, held_out):,} of {held_out:,} validation images" if held_out else ""
    bound = ", ".join(f"{name}=..." for name in axes)
    text = (
        f"All settings are of one training, {shown(run.folder)}{time}: model.at({bound}). None of them was trained on "
        "its own, which may give somewhat different results. "
        f"Results are of {min(limit or total, total):,} of {total:,} test images{chosen}."
    )
    Origin(str(run.folder), run.sha256, text, tuple(pictures)).write(folder)
