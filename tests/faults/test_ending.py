"""However training ends, its last state is validated and saved, and the result records what ended it."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nelbo.checkpoints.record import read_checkpoint
from tests.helpers.interrupted import assert_same_run, differences, interrupted, rows, run

# Six steps per epoch.
SELDOM = "trainer.check_val_every_n_epoch=5"
CONSTANT = "scheduler=constant"
RATES = (
    "logger=csv",
    "+callbacks.scalars={_target_:nelbo.training.callbacks.TrainingScalars}",
    "trainer.log_every_n_steps=1",
)
OURS = "allow_targets=[tests.]"


def ended(folder: Path, overrides: list[str]) -> tuple[dict[str, Any], list[int]]:
    """Run, and return its metrics and the steps at which it was validated."""
    done = run(folder, overrides)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    history = folder / "history.csv"
    return json.loads((folder / "metrics.json").read_text()), [int(row["step"]) for row in rows(history)]


def step_of(folder: Path, name: str) -> int:
    return int(read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")["global_step"])


STOP_AFTER = "+callbacks.stop={{_target_:tests.helpers.ending.StopAfter{}}}"
EARLY = "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/nelbo,mode:max,patience:1}"
ENDS: dict[str, tuple[list[str], int, float, str]] = {
    "max_steps": (["trainer.max_steps=9", "trainer.max_epochs=-1", SELDOM, *RATES], 9, 1.5, "max_steps"),
    "max_epochs": (["trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2"], 18, 3, "max_epochs"),
    "max_time": (["trainer.max_time={seconds:1e-6}"], 1, 0.1667, "max_time"),
    "callback within an epoch": (
        [OURS, STOP_AFTER.format("Batches,batches:9"), "trainer.accumulate_grad_batches=4", SELDOM],
        3,  # the callback asks in the third of the four batches that make the third step
        1.6667,
        "a callback (StopAfterBatches)",
    ),
    "callback at an epoch's end": (
        [OURS, STOP_AFTER.format("Epochs,epochs:2"), SELDOM],
        12,
        2,
        "a callback (StopAfterEpochs)",
    ),
    "early stopping within an epoch": (
        ["trainer.max_epochs=5", "trainer.val_check_interval=2", EARLY],
        4,
        0.6667,
        "early stopping (EarlyStopping on val/nelbo)",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {end: tmp_path_factory.mktemp("whole") / "run" for end in ENDS}


@pytest.mark.parametrize("end", ENDS)
def test_the_last_state_is_validated_and_saved_whatever_ends_training(folders: dict[str, Path], end: str) -> None:
    overrides, steps, epochs, reason = ENDS[end]
    folder = folders[end]
    metrics, validated = ended(folder, overrides)
    assert (metrics["steps"], metrics["epochs"], metrics["ended_by"]) == (steps, epochs, reason)
    assert validated[-1] == steps and len(validated) == len(set(validated))
    assert step_of(folder, "last") == steps
    history = {int(row["step"]): float(row["val/objective"]) for row in rows(folder / "history.csv")}
    assert metrics["checkpoint_step"] == min(history, key=lambda step: history[step]) == step_of(folder, "best")
    assert metrics["val/objective"] == pytest.approx(history[metrics["checkpoint_step"]])
    if end == "max_steps":  # the cosine is over nine steps
        logged = [row["train/learning_rate"] for row in rows(folder / "csv" / "metrics.csv")]
        rates = [0.001 * (1 + math.cos(math.pi * step / 9)) for step in range(1, 10)]
        assert [float(rate) for rate in logged if rate] == pytest.approx(rates)
    log = (folder / "train.log").read_text()
    assert f"training ended after {metrics['epochs']} epochs, {steps} steps, by {reason}; the best checkpoint" in log


@pytest.mark.parametrize(
    ("end", "faults"),
    [
        ("max_steps", ["train:5:SIGTERM", "validation:1:SIGKILL", "test:1:SIGTERM"]),
        ("early stopping within an epoch", ["train:3:SIGKILL", "validation:2:SIGKILL"]),
        *(
            pytest.param(end, ["validation:1:SIGKILL", "test:1:SIGTERM"], marks=pytest.mark.slow)
            for end in ("max_epochs", "callback within an epoch", "callback at an epoch's end")
        ),
    ],
)
def test_resume_exact_where_training_ends(
    tmp_path: Path, folders: dict[str, Path], end: str, faults: list[str]
) -> None:
    """Killed in the last validation, which is repeated, or stopped in the test, before which nothing is repeated."""
    if not folders[end].exists():
        ended(folders[end], ENDS[end][0])
    interrupted(tmp_path, ENDS[end][0], faults)
    assert_same_run(folders[end], tmp_path)


def test_without_validation_images_the_last_step_is_saved_and_tested(tmp_path: Path) -> None:
    chosen = ["trainer.max_steps=9", "data.validation_size=0", SELDOM]
    done = run(tmp_path / "whole", chosen)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert (metrics["steps"], metrics["epochs"], metrics["checkpoint_step"]) == (9, 1.5, 9)
    interrupted(tmp_path / "parts", chosen, ["test:1:SIGTERM"])
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_run_that_ended_within_an_epoch_is_finished_and_resumes_with_more_steps(tmp_path: Path) -> None:
    """It equals the longer run, except for the additional validation at its first end."""
    _, validated = ended(tmp_path / "whole", ["trainer.max_steps=20", CONSTANT])
    ended(tmp_path / "parts", ["trainer.max_steps=9", CONSTANT])
    again = run(tmp_path / "parts", ["trainer.max_steps=9", CONSTANT])
    assert again.returncode == 0 and "this run is complete" in again.stderr
    fewer = run(tmp_path / "parts", ["trainer.max_steps=8", CONSTANT])
    assert fewer.returncode == 2 and "trainer.max_steps=8: " in fewer.stderr and "made 9 steps already" in fewer.stderr
    metrics, now_validated = ended(tmp_path / "parts", ["trainer.max_steps=20", CONSTANT])
    assert now_validated == sorted([*validated, 9]) and metrics["steps"] == 20
    changes = {"trainer.max_steps": [9, 20]}
    assert metrics["resumed"] == [{"step": 9, "changes": changes}]
    one, other = (read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "parts"))
    assert {key.split(".")[1] for key in differences(one, other)} <= {"nelbo"}


def test_validations_within_an_epoch_count_for_the_best_checkpoint(tmp_path: Path) -> None:
    """With a learning rate that soon degrades the model. A run without last.ckpt resumes from best.ckpt."""
    chosen = ["trainer.max_epochs=2", "trainer.val_check_interval=2", "optimizer.lr=0.1", CONSTANT]
    metrics, validated = ended(tmp_path / "whole", chosen)
    history = {int(row["step"]): float(row["val/objective"]) for row in rows(tmp_path / "whole" / "history.csv")}
    best = min(history, key=lambda step: history[step])
    assert validated == [2, 4, 6, 8, 10, 12] and best % 6, history
    assert (metrics["checkpoint_step"], metrics["checkpoint_epoch"]) == (best, round(best / 6, 4))
    assert run(tmp_path / "parts", chosen, f"train:{best + 1}:SIGKILL").returncode == -9
    shutil.copy(tmp_path / "parts" / "checkpoints" / "best.ckpt", tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert run(tmp_path / "parts", chosen).returncode == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_epochs_that_a_budget_was_raised_to_are_in_the_log_the_config_and_the_record(tmp_path: Path) -> None:
    budget = ["budget.epochs=1", "budget.min_steps=13"]
    metrics, validated = ended(tmp_path, budget)
    assert (metrics["epochs"], metrics["steps"], metrics["ended_by"]) == (3, 18, "max_epochs")
    assert "training for 3 epochs (18 steps): with so few images" in (tmp_path / "train.log").read_text()
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["trainer"]["max_epochs"] == 3
    again = run(tmp_path, budget)
    assert again.returncode == 0 and "this run is complete" in again.stderr
    longer, _ = ended(tmp_path, ["budget.epochs=1", "budget.min_steps=19"])
    assert longer["steps"] == 24
    assert longer["resumed"] == [{"step": 18, "changes": {"trainer.max_epochs": [3, 4]}}]
    fewer = run(tmp_path, [*budget, "trainer.max_epochs=1"])
    assert fewer.returncode == 2 and "trainer.max_epochs=1: " in fewer.stderr and "has trained 4 epochs" in fewer.stderr
