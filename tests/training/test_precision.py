"""The precision of training: how `auto` is recorded, and a run that resumes with another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nelbo.config.build import RUN_PREFIXES
from nelbo.errors import Diverged
from nelbo.finished.bundle import read_bundle
from nelbo.training.trainer import make_trainer
from tests.helpers.diverging import Poke, Training, infinite_loss, make_config
from tests.helpers.forks import Train


def test_a_crash_bundle_has_the_precision_that_auto_chose(tmp_path: Path) -> None:
    """It may be replayed on another machine."""
    training = Training(tmp_path, "trainer.precision=bf16-mixed", callbacks=(Poke(infinite_loss, 1),))
    training.guard.config["trainer"]["precision"] = "auto"  # type: ignore[index]
    with pytest.raises(Diverged):
        training.fit()
    (file,) = (tmp_path / "crash").glob("*.pt")
    assert read_bundle(file)["config"]["trainer"]["precision"] == "bf16-mixed"


def test_a_config_without_a_precision_trains_in_float32(tmp_path: Path) -> None:
    plain = make_config("~trainer.precision", "logger=none", "callbacks=none")
    trainer = make_trainer(plain, tmp_path, None, [], RUN_PREFIXES, validated=False)  # type: ignore[arg-type]
    assert trainer.precision == "32-true"


def test_a_run_that_resumes_with_another_precision_says_so(train: Train, tmp_path: Path) -> None:
    run = ("model=linear_vae", "data=digits", "trainer=smoke", "threads=1")
    assert train(*run, "trainer.max_epochs=1").returncode == 0
    change = ("trainer.precision=bf16-mixed", "resume_changes=[trainer.precision]")
    done = train(f"resume={tmp_path / 'run'}", "trainer.max_epochs=2", *change)
    assert done.returncode == 0, done.stderr
    assert "the run resumes with trainer.precision bf16-mixed instead of 32-true" in done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["precision"] == "bf16-mixed"
