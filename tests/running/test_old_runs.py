"""Runs of earlier versions can be resumed, with the results that they would have had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.forks import ROOT, forked
from tests.helpers.interrupted import rows

OLD = ROOT / "tests" / "runs"
TIMES = ("train_seconds", "images_per_second")


@pytest.fixture(params=sorted(path.name for path in OLD.iterdir() if path.is_dir()))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run that an earlier version left in the middle of an epoch."""
    return Path(shutil.copytree(OLD / request.param, tmp_path / "run"))


@pytest.mark.parametrize("alone", [False, True], ids=["with its arguments", "by its directory alone"])
def test_a_run_of_an_earlier_version_resumes(old: Path, alone: bool) -> None:
    """A foreign event file stays unchanged, and the run's own curves have no overlap."""
    arguments = [line.removeprefix("- ") for line in (old / "overrides.yaml").read_text().splitlines()]
    expected = json.loads((old / "expected.json").read_text())
    foreign = old / "tensorboard" / "events.out.tfevents.1895875828.foreign.1.0"
    shutil.copy(next((old / "tensorboard").iterdir()), foreign)
    before = foreign.read_bytes()
    command = [f"resume={old}"] if alone else [*arguments, f"hydra.run.dir={old}", "resume=auto"]
    done = forked("train.py", *command)
    assert done.returncode == 0, done.stderr
    assert "resuming from" in done.stderr and f"{foreign}: left unchanged" in done.stderr
    assert foreign.read_bytes() == before
    metrics = json.loads((old / "metrics.json").read_text())
    for key, value in expected.items():
        if key not in TIMES:
            assert metrics[key] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), key
    assert metrics["train_cpu_seconds"] is None  # which the earlier version did not measure
    assert [row["epoch"] for row in rows(old / "history.csv")] == ["1", "2"]
    foreign.unlink()
    curve = EventAccumulator(str(old / "tensorboard")).Reload().Scalars("val/nelbo")
    assert [event.step for event in curve] == [5, 11]
