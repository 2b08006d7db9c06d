"""Loggers of a run, one or several, and the output of a profiler."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nelbo.config.identity import identity
from tests.helpers.diverging import make_config
from tests.helpers.forks import Done, forked
from tests.helpers.interrupted import rows

SMALL = (
    "model=mlp_vae",
    "data=digits",
    "callbacks=none",
    "+callbacks.scalars={_target_:nelbo.training.callbacks.TrainingScalars}",
)


def train(folder: Path, *overrides: str) -> Done:
    return forked("train.py", *SMALL, *overrides, "trainer=smoke", f"hydra.run.dir={folder}")


def steps_logged(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Return the steps with a value, by logger and tag."""
    logged: dict[str, dict[str, list[int]]] = {}
    if (folder / "csv").exists():
        table = rows(folder / "csv" / "metrics.csv")
        logged["csv"] = {
            tag: [int(row["step"]) for row in table if row.get(tag)] for tag in ("train/nelbo", "val/nelbo")
        }
    if (folder / "tensorboard").exists():
        board = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0}).Reload()
        logged["tensorboard"] = {
            tag: [event.step for event in board.Scalars(tag)] for tag in ("train/nelbo", "val/nelbo")
        }
        assert "_hparams_/session_start_info" in board.summary_metadata
    return logged


def test_loggers_work_alone_and_together_and_continue_when_resumed(tmp_path: Path) -> None:
    for chosen in ("csv", "tensorboard", "csv,tensorboard"):
        done = train(tmp_path / chosen.replace(",", "-"), f"logger=[{chosen}]", "trainer.max_epochs=2")
        assert done.returncode == 0, done.stderr
        expected = {"train/nelbo": list(range(1, 11)), "val/nelbo": [4, 9]}
        assert steps_logged(tmp_path / chosen.replace(",", "-")) == dict.fromkeys(chosen.split(","), expected)
    both = tmp_path / "csv-tensorboard"
    done = train(both, "logger=[csv,tensorboard]", "trainer.max_epochs=3", "resume=auto")
    assert done.returncode == 0, done.stderr
    expected = {"train/nelbo": list(range(1, 16)), "val/nelbo": [4, 9, 14]}
    assert steps_logged(both) == {"csv": expected, "tensorboard": expected}


def test_a_run_from_before_loggers_had_names_is_resumed(tmp_path: Path) -> None:
    assert train(tmp_path, "logger=csv").returncode == 0
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["logger"] = config["logger"]["csv"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = train(tmp_path, "logger=csv", "trainer.max_epochs=2", "resume=auto")
    assert done.returncode == 0, done.stderr
    assert steps_logged(tmp_path)["csv"]["val/nelbo"] == [4, 9]


def test_a_run_with_one_logger_has_the_same_identity_as_before_loggers_had_names() -> None:
    plain, both = make_config(), make_config("logger=[csv,tensorboard]")
    assert identity(plain) == identity({**plain, "logger": plain["logger"]["tensorboard"]})
    assert identity({**plain, "logger": {}}) == identity({**plain, "logger": {"tensorboard": None}})
    assert len({identity(plain), identity(both), identity(make_config("logger=csv"))}) == 3


@pytest.mark.parametrize(
    ("chosen", "texts"),
    [
        ("debug=profile", ("FIT Profiler Report", "run_training_batch")),
        ("trainer.profiler=advanced", ("FIT Profiler Report", "run_training_batch")),
        ("+callbacks.sizes={_target_:pytorch_lightning.callbacks.ModelSummary}", ("Trainable params", "Params")),
    ],
)
def test_output_requested_from_lightning_is_printed(tmp_path: Path, chosen: str, texts: tuple[str, str]) -> None:
    done = train(tmp_path, chosen, "logger=none")
    assert done.returncode == 0, done.stderr
    for output in (done.stderr, (tmp_path / "train.log").read_text()):
        assert texts[0] in output and texts[1] in output
