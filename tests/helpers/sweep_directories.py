"""Sweep directories with the files that trained cells would have left, written without training."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from nelbo.directories.names import METRICS
from nelbo.sweeps.cells.record import PLAN, RECORD, Plan

CONFIG: dict[str, Any] = {
    "seed": 0,
    "model": {"_target_": "nelbo.models.VAE", "latent_dim": 8},
    "objective": {"_target_": "nelbo.objectives.NegativeELBO", "beta": 1, "num_samples": 1},
    "data": {"name": "digits", "protocol": "raw", "batch_size": 256},
    "optimizer": {"lr": 0.002},
}
CHOICES = {"model": "mlp_vae", "data": "digits", "likelihood": "gaussian", "sweep": "none"}


def scores(rate: float, distortion: float, **more: Any) -> dict[str, Any]:
    """Return the content of a cell's `metrics.json`.

    Args:
        rate: the KL, nats per image.
        distortion: the reconstruction, nats per image.
        more: further entries, or other values of these.
    """
    elbo = {"test/nelbo": rate + distortion, "test/kl": rate, "test/reconstruction": distortion}
    provenance = {"data": "digits", "protocol": "raw", "data_sha256": "f17e", "test_images": 297}
    return {
        "val/nelbo": rate + distortion,
        "val/reconstruction": distortion,
        **elbo,
        "test/active_units": 2.0,
        "train_seconds": 1.5,
        **provenance,
        **more,
    }


def write_sweep(sweep: Path, cells: list[dict[str, Any]], *, strips: bool = False, curve: int = 3) -> Path:
    """Write `sweep.json` and the directories of cells.

    Args:
        sweep: the directory of the sweep.
        cells: of each its `overrides`, and its `metrics`, or another `state` than done and an `error`.
        strips: whether cells have a picture of samples.
        curve: the number of epochs in `history.csv`.
    """
    plan = Plan(command=["python", "train.py", "-m"])
    for number, cell in enumerate(cells):
        identity, overrides = f"{number:016x}", list(cell["overrides"])
        name = plan.add(identity, f"cell{number}-{identity[-8:]}", overrides)
        plan.newest.append(identity)
        state = cell.get("state", "done")
        folder = sweep / name
        folder.mkdir(parents=True)
        if state == "pending":
            continue
        record = {"identity": identity, "overrides": overrides, "choices": dict(CHOICES), "config": config(overrides)}
        record |= {"state": state, "error": cell.get("error", ""), "started": 1.0, "ended": 3.0}
        (folder / RECORD).write_text(json.dumps(record))
        if state == "done":
            (folder / METRICS).write_text(json.dumps({"identity": identity, **cell["metrics"]}))
            write_history(folder, cell["metrics"], curve)
        if strips:
            (folder / "pictures").mkdir()
            Image.new("L", (64, 8), number % 256).save(folder / "pictures" / "samples.png")
    plan.write(sweep)
    assert (sweep / PLAN).exists()
    return sweep


def config(overrides: list[str]) -> dict[str, Any]:
    """Return `CONFIG` with the overrides applied."""
    plain = copy.deepcopy(CONFIG)
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        *groups, last = key.split(".")
        holder = plain
        for group in groups:
            holder = holder.setdefault(group, {})
        if groups or last == "seed":
            holder[last] = float(value) if value.replace(".", "").isdigit() else value
    return plain


def write_history(folder: Path, metrics: Mapping[str, Any], rows: int) -> None:
    """Write a `history.csv` whose curve falls to the result."""
    if "val/nelbo" in metrics:
        lines = [f"{epoch},{epoch * 5},0.1,{metrics['val/nelbo'] + 100 / epoch}" for epoch in range(1, rows + 1)]
        (folder / "history.csv").write_text("\n".join(["epoch,step,seconds,val/nelbo", *lines]) + "\n")
