"""Each option of the group `debug` does what its first line says."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from nelbo.errors import Diverged
from nelbo.objectives.objective import Loss
from tests.helpers.diverging import Training, make_config
from tests.helpers.forks import forked

QUIET = ("data=digits", "callbacks=none", "+callbacks.scalars={_target_:nelbo.training.callbacks.TrainingScalars}")


def with_a_gradient_of_nan(training: Training) -> Training:
    """Add a term whose value is 0 and whose gradient is NaN: of the square root of zeros it is infinite, times 0."""
    objective: Any = training.module.objective
    of_trace = objective.forward

    def forward(*arguments: Any) -> Loss:
        loss = of_trace(*arguments)
        weight = next(training.module.model.parameters())
        return Loss(loss.total + (weight * 0).sqrt().sum(), loss.terms)

    objective.forward = forward
    return training


def test_nan_names_the_operation_and_its_line(tmp_path: Path) -> None:
    shown = pytest.warns(UserWarning, match=r"(?s)Error detected in MulBackward0.*\(weight \* 0\)\.sqrt\(\)")
    with shown, pytest.raises(RuntimeError, match="'MulBackward0' returned nan values"):
        with_a_gradient_of_nan(Training(tmp_path, "debug='nan'")).fit()


def test_without_nan_the_guard_names_the_gradient(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="gradient"):
        with_a_gradient_of_nan(Training(tmp_path)).fit()
    assert not torch.is_anomaly_enabled()


def test_anomaly_is_the_earlier_name_of_nan() -> None:
    assert make_config("debug=anomaly") == make_config("debug='nan'") != make_config()
    assert make_config("debug=anomaly")["trainer"]["detect_anomaly"] is True


@pytest.mark.parametrize("debug", ["nan", "'nan'", "[overfit,nan]", "[nan,overfit]"])
def test_nan_can_be_typed_as_it_stands(debug: str) -> None:
    """Hydra reads nan as a number that is none."""
    done = forked("train.py", f"debug={debug}", "--cfg=job", "--package=trainer")
    assert done.returncode == 0, done.stderr
    assert "detect_anomaly: true" in done.stdout
    assert f"overfit_batches: {int('overfit' in debug)}" in done.stdout


def test_overfit_fits_one_batch(tmp_path: Path) -> None:
    chosen = ("model=tanh_mlp_vae", "debug=overfit", "logger=csv", "trainer.max_epochs=60", "optimizer.lr=3e-3")
    done = forked("train.py", *QUIET, *chosen, "trainer.log_every_n_steps=1", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "csv" / "metrics.csv").open(newline="") as stream:
        losses = [float(row["train/nelbo"]) for row in csv.DictReader(stream) if row["train/nelbo"]]
    assert len(losses) == 60, "one step an epoch"
    assert losses[-1] < losses[0] - 20


def test_fast_dev_run_leaves_nothing_but_the_log(tmp_path: Path) -> None:
    overrides = ("model=mlp_vae", "data=digits", "debug=fast_dev_run", f"hydra.run.dir={tmp_path}")
    for _ in range(2):  # the directory can be used again
        done = forked("train.py", *overrides)
        assert done.returncode == 0, done.stderr
        assert "epoch 1/1" in done.stderr and "trained 1 steps, validated and tested" in done.stderr
        left = {file.name for file in tmp_path.rglob("*") if not file.name.startswith(".lock")}
        assert left == {"train.log"}


def test_fast_dev_run_tests_too_and_keeps_the_files_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "mine.png").touch()
    overrides = ("model=linear_vae", "data=digits", "debug=fast_dev_run", "logger=csv", f"hydra.run.dir={tmp_path}")
    done = forked("train.py", *overrides)
    assert done.returncode == 0, done.stderr
    assert "is tested" in done.stderr and (tmp_path / "pictures" / "mine.png").exists()
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "csv").exists()


def test_cells_of_a_sweep_keep_their_files(tmp_path: Path) -> None:
    overrides = ("-m", "model=linear_vae", "data=digits", "debug=fast_dev_run", "seed=1,2", "hydra/launcher=local")
    done = forked("train.py", *overrides, "hydra.launcher.n_jobs=1", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("seed=*/metrics.json"))) == 2


def test_fast_dev_run_is_not_a_way_to_continue_a_run(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch\n")
    done = forked("train.py", "data=digits", "debug=fast_dev_run", f"resume={tmp_path}", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2 and "would remove the files of the run" in done.stderr.splitlines()[-1], done.stderr
    assert (tmp_path / "history.csv").exists()
