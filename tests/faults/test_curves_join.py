"""The curves of an interrupted run equal those of an uninterrupted one: nothing twice, and no gaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.damage import SMALL_NETS
from tests.helpers.interrupted import assert_same_run, interrupted, rows, run

CHOSEN = [*SMALL_NETS, "model.latent_dim=2", "trainer.max_epochs=3", "trainer.log_every_n_steps=2"]
WATCHED = [*CHOSEN, "callbacks=default", "logger=tensorboard"]
FAULTS = ("train:9:SIGKILL", "validation:1:SIGKILL", "save:2:SIGKILL")
"""Faults after logged steps: in the second epoch, in its validation, and while its checkpoint is written."""

ALL = {"scalars": 0, "images": 0, "tensors": 0}


def board(folder: Path) -> dict[str, list[Any]]:
    """Return everything that TensorBoard shows of a run, by tag, except times."""
    log = EventAccumulator(str(folder / "tensorboard"), size_guidance=ALL).Reload()
    scalars = {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}
    images = {
        tag: [(event.step, event.encoded_image_string) for event in log.Images(tag)] for tag in log.Tags()["images"]
    }
    scalars["train/images_per_second"] = [step for step, _ in scalars["train/images_per_second"]]
    return {**scalars, **images}


def test_curves_join(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", WATCHED).returncode == 0
    interrupted(tmp_path / "parts", WATCHED, FAULTS)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    whole, parts = board(tmp_path / "whole"), board(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for tag, shown in whole.items():
        assert parts[tag] == shown, tag
    assert {len(whole[tag]) for tag in ("train/nelbo", "val/nelbo", "pictures/kl_per_unit")} == {
        10,
        3,
    }  # the first step too
    assert len([tag for tag in whole if tag in ("pictures/manifold", "pictures/samples")]) == 2
    for name in ("samples", "reconstructions"):
        pictures = [folder / "pictures" / f"{name}.png" for folder in (tmp_path / "whole", tmp_path / "parts")]
        assert pictures[0].read_bytes() == pictures[1].read_bytes()


def test_curves_join_in_tables(tmp_path: Path) -> None:
    logged = [*CHOSEN, "logger=csv", "callbacks=default"]
    assert run(tmp_path / "whole", logged).returncode == 0
    interrupted(tmp_path / "parts", logged, FAULTS)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")  # with history.csv and kl_per_unit.csv
    tables = [rows(folder / "csv" / "metrics.csv") for folder in (tmp_path / "whole", tmp_path / "parts")]
    for row in (*tables[0], *tables[1]):
        row["train/images_per_second"] = ""
    assert tables[0] == tables[1] and len(tables[0]) > 12


def test_curves_join_in_seconds(tmp_path: Path) -> None:
    """A resumed run measures its speed over the time that it trained, not since the boot of the machine."""
    interrupted(tmp_path, CHOSEN, ["train:9:SIGTERM"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    seconds = [float(row["seconds"]) for row in rows(tmp_path / "history.csv")]
    assert seconds == sorted(seconds) and 0 < metrics["train_seconds"] < seconds[-1] < 60
    assert metrics["images_per_second"] > 100
