"""A resumed run equals an uninterrupted one, bit for bit: weights, random states, result."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.interrupted import assert_same_run, interrupted, rows, run
from tests.helpers.shipped import RESUME_OPTIONS

EPOCHS = "trainer.max_epochs=3"
PIXELS = np.random.default_rng(0).integers(0, 256, (699, 8, 8), dtype=np.uint8)
# Six steps per epoch: the first of the third epoch, the middle of the second, the last of the second.
PLACES = {"epoch end": "train:13:SIGKILL", "mid-epoch": "train:9:SIGTERM", "last batch": "train:12:SIGTERM"}
AUGMENTED = ("data.augment.flip=true", "data.augment.pad_crop=1")
WORKERS = ("data.num_workers=2",)
UNVALIDATED = ("data.validation_size=0",)


def options(*chosen: tuple[str, ...]) -> list[str]:
    """Return the overrides of all groups, with three epochs."""
    return [EPOCHS, *itertools.chain(*chosen)]


@pytest.mark.parametrize("place", PLACES)
def test_resume_exact_with_workers_augmentation_and_validation(tmp_path: Path, place: str) -> None:
    reference(tmp_path / "whole", options(AUGMENTED))
    interrupted(tmp_path / "parts", options(WORKERS, AUGMENTED), [PLACES[place]])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.parametrize("augmented", [(), AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize("validated", [(), UNVALIDATED], ids=["validated", "unvalidated"])
def test_resume_exact(tmp_path: Path, validated: tuple[str, ...], augmented: tuple[str, ...]) -> None:
    """24 cases in total, with three places and none or two workers for each pair of parameters."""
    reference(tmp_path / "whole", options(validated, augmented))
    for (place, fault), workers in itertools.product(PLACES.items(), [(), WORKERS]):
        parts = tmp_path / f"{place}-{len(workers)}"
        interrupted(parts, options(validated, augmented, workers), [fault])
        assert_same_run(tmp_path / "whole", parts)


@pytest.mark.slow
@pytest.mark.parametrize("shipped", RESUME_OPTIONS)
def test_resume_exact_for_every_option(tmp_path: Path, shipped: str) -> None:
    chosen = [*shipped.split(), EPOCHS]
    reference(tmp_path / "whole", chosen)
    for place in ("mid-epoch", "last batch"):
        interrupted(tmp_path / place, chosen, [PLACES[place]])
        assert_same_run(tmp_path / "whole", tmp_path / place)


def test_averages_and_counts_are_resumed(tmp_path: Path) -> None:
    """Stopped within an epoch and in the rise of the learning rate, then in the first write of a checkpoint."""
    chosen = ["averaging=ema", "lr_warm_up=6", "trainer.gradient_clip_val=12", "guard.skip_above=19", EPOCHS]
    chosen += ["likelihood=gaussian_optimal", "trainer.accumulate_grad_batches=2"]
    reference(tmp_path / "whole", chosen)
    interrupted(tmp_path / "parts", chosen, ["train:8:SIGTERM", "save:1:SIGKILL"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert 0 < metrics["skipped_steps"] < 9 and 0 < metrics["clipped_steps"] < 9 == metrics["steps"]


def reference(folder: Path, overrides: list[str]) -> None:
    """Run without an interruption."""
    done = run(folder, overrides)
    assert done.returncode == 0, done.stderr


def test_resuming_for_more_epochs_equals_the_longer_run(tmp_path: Path) -> None:
    """With a constant learning rate, which does not depend on the number of epochs."""
    reference(tmp_path / "whole", ["trainer.max_epochs=3", "scheduler=constant"])
    reference(tmp_path / "parts", ["trainer.max_epochs=2", "scheduler=constant"])
    reference(tmp_path / "parts", ["trainer.max_epochs=3", "scheduler=constant"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts", but=[".resumed", ".nelbo.resumed"])
    changes = [{"step": 12, "changes": {"trainer.max_epochs": [2, 3]}}]
    assert json.loads((tmp_path / "parts" / "metrics.json").read_text())["resumed"] == changes
    done = run(tmp_path / "parts", ["trainer.max_epochs=4", "scheduler=constant"])
    assert "from step 18 on with trainer.max_epochs=4, which was 3" in done.stderr


def test_a_longer_cosine_resumes_at_the_rate_of_the_longer_run(tmp_path: Path) -> None:
    csv = ["logger=csv", "callbacks=default", "callbacks.pictures=null", "trainer.log_every_n_steps=1"]
    for folder, epochs in (("whole", 4), ("parts", 2), ("parts", 4)):
        reference(tmp_path / folder, [*csv, f"trainer.max_epochs={epochs}"])
    rates = [
        [row["train/learning_rate"] for row in rows(tmp_path / name / "csv" / "metrics.csv") if row["train/nelbo"]]
        for name in ("whole", "parts")
    ]
    assert len(rates[0]) == 24 and rates[0][12:] == rates[1][12:] and rates[0][:12] != rates[1][:12]


def test_a_run_that_another_callback_ended_stays_ended(tmp_path: Path) -> None:
    """Early stopping after two epochs, stopped by a signal in the test."""
    stop = "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/nelbo,mode:max,patience:1}"
    chosen = ["trainer.max_epochs=6", stop]
    reference(tmp_path / "whole", chosen)
    interrupted(tmp_path / "parts", chosen, ["test:1:SIGTERM"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "metrics.json").read_text())["epochs"] == 2


def test_a_validation_within_an_epoch_is_not_lost(tmp_path: Path) -> None:
    chosen = ["trainer.max_epochs=2", "+trainer.val_check_interval=0.5"]
    reference(tmp_path / "whole", chosen)
    interrupted(tmp_path / "parts", chosen, ["train:9:SIGTERM"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_images_whose_shape_is_read_from_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x_train=PIXELS[:600], x_test=PIXELS[600:])
    chosen = ["data=arrays", f"data.path={tmp_path / 'images.npz'}", EPOCHS, "data.validation_size=100"]
    reference(tmp_path / "whole", chosen)
    interrupted(tmp_path / "parts", chosen, ["train:3:SIGTERM"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
