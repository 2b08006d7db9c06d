"""What results record about their computation: versions, commit, processor, processor time."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import nelbo
from nelbo.checkpoints.environment import CODE, commit, environment, processor
from nelbo.checkpoints.record import read_checkpoint
from nelbo.sweeps.report.cell_table import read_table
from nelbo.sweeps.report.results_file import write_results
from nelbo.training import clock
from nelbo.training.callbacks import Throughput
from nelbo.training.clock import Clock, processor_seconds
from nelbo.training.module import VAEModule
from tests.helpers.diverging import Training
from tests.helpers.forks import ROOT, forked
from tests.helpers.sweep_directories import scores, write_sweep


def test_metrics_checkpoints_and_evaluations_store_their_environment(smoke_run: Path) -> None:
    expected = environment(torch.device("cpu"))
    assert expected["nelbo"] == nelbo.__version__ and expected["torch"] == torch.__version__
    assert expected["lightning"] == pl.__version__ and expected["processor"] == processor() != ""
    assert (expected["accelerator"], expected["processes"]) == (None, 1)
    metrics = json.loads((smoke_run / "metrics.json").read_text())
    assert metrics["environment"] == expected and 0 < metrics["train_cpu_seconds"]
    for name in ("best", "last"):
        assert read_checkpoint(smoke_run / "checkpoints" / f"{name}.ckpt")["nelbo"]["environment"] == expected
    done = forked("scripts/evaluate.py", f"run={smoke_run}", "metrics=[elbo]", "limit=20")
    assert done.returncode == 0, done.stderr
    measured = json.loads((smoke_run / "evaluation.json").read_text())["measures"]
    assert measured["elbo"]["environment"] == expected


def git(folder: Path, *arguments: str) -> str:
    identity = {
        f"GIT_{role}_{field}": "n@example.org" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")
    }
    no_config = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **identity, **no_config},
    )
    return done.stdout.strip()


def test_results_csv_of_a_sweep_has_scalars_only_and_results_json_all_values(tmp_path: Path) -> None:
    metrics = scores(1, 2, environment={"torch": "2.13.0"}, resumed=[{"step": 3}])
    sweep = write_sweep(tmp_path, [{"overrides": ["seed=1"], "metrics": metrics}])
    write_results(read_table(sweep), None)
    header = (sweep / "results.csv").read_text().splitlines()[0].split(",")
    assert "test/nelbo" in header and not {"environment", "resumed"} & set(header)
    (cell,) = json.loads((sweep / "results.json").read_text())["cells"]
    assert cell["environment"] == {"torch": "2.13.0"} and cell["resumed"] == [{"step": 3}]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout_is_marked_if_its_code_has_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None  # no commit yet
    code = tmp_path / CODE[0]
    code.mkdir()
    (code / "module.py").write_text("one = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("not code")
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as in a hook of another repository
    assert commit(tmp_path) == head
    (code / "other.py").touch()
    assert commit(tmp_path) == f"{head}+changes"
    (code / "other.py").unlink()
    (code / "module.py").write_text("one = 2\n")
    assert commit(tmp_path) == f"{head}+changes"
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) is None


def compute(seconds: float, computed: Any, may_end: Any) -> None:
    while time.process_time() < seconds:
        pass
    computed.set()
    may_end.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux reports the times of running processes")
def test_processor_seconds_include_running_and_ended_workers() -> None:
    context = multiprocessing.get_context("fork")
    computed, may_end = context.Event(), context.Event()
    before = processor_seconds()
    worker = context.Process(target=compute, args=(0.3, computed, may_end))
    worker.start()
    computed.wait()
    while_running = processor_seconds() - before
    may_end.set()
    worker.join()
    after_its_end = processor_seconds() - before
    assert 0.28 < while_running < 2 and 0.28 < after_its_end < 2  # a tick is 0.01 s
    timer = Clock()
    timer.start()
    time.sleep(0.2)
    timer.stop(torch.device("cpu"))
    assert timer.seconds > 0.19 > 10 * timer.cpu_seconds  # sleeping takes no processor time


class FakeTime:
    """A clock that stands still except where a test advances it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "processor_seconds", lambda: 3 * self.now)
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def passes_in(self, monkeypatch: pytest.MonkeyPatch, step: str, seconds: float) -> None:
        """Make a step of the module take this many seconds."""
        original = getattr(VAEModule, step)

        def slow(*arguments: Any) -> Any:
            self.now += seconds
            return original(*arguments)

        monkeypatch.setattr(VAEModule, step, slow)


def test_seconds_of_training_exclude_validations_within_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training step takes 1 s of wall time and 3 s of processor time, and a validation batch 100 s."""
    fake = FakeTime(monkeypatch)
    fake.passes_in(monkeypatch, "training_step", 1)
    fake.passes_in(monkeypatch, "validation_step", 100)
    throughput = Throughput()
    training = Training(tmp_path, "+trainer.val_check_interval=0.5", "trainer.max_epochs=2", callbacks=(throughput,))
    steps = training.fit().trainer.global_step
    assert fake.now > 1000 + steps + 4 * 100 - 1  # four validations
    assert (throughput.seconds, throughput.cpu_seconds) == (steps, 3 * steps)


def test_processor_seconds_survive_a_resume(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeTime(monkeypatch)
    first = Throughput()
    first.clock.start()
    fake.now += 5
    second = Throughput()
    second.load_state_dict(first.state_dict())  # in the middle of an epoch
    fake.now += 100  # between the interruption and the resumption
    second.clock.start()
    fake.now += 2
    second.clock.stop(torch.device("cpu"))
    assert second.clock.read() == (7, 21)
    from_earlier_version = Throughput()
    from_earlier_version.load_state_dict({"seconds": 7.0, "images": 10})
    from_earlier_version.clock.start()
    fake.now += 1
    assert from_earlier_version.clock.read() == (8, None)
