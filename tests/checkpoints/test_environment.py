"""What a number was made with stands beside it: versions, commit, processor, processor time."""

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


def test_metrics_checkpoints_and_evaluations_say_what_they_were_made_with(smoke_run: Path) -> None:
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
    named = {f"GIT_{who}_{what}": "n@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **named, **quiet},
    )
    return done.stdout.strip()


def test_the_table_of_a_sweep_has_single_values_and_its_json_all(tmp_path: Path) -> None:
    metrics = scores(1, 2, environment={"torch": "2.13.0"}, resumed=[{"step": 3}])
    sweep = write_sweep(tmp_path, [{"overrides": ["seed=1"], "metrics": metrics}])
    write_results(read_table(sweep), None)
    header = (sweep / "results.csv").read_text().splitlines()[0].split(",")
    assert "test/nelbo" in header and not {"environment", "resumed"} & set(header)
    (cell,) = json.loads((sweep / "results.json").read_text())["cells"]
    assert cell["environment"] == {"torch": "2.13.0"} and cell["resumed"] == [{"step": 3}]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_says_its_commit_and_whether_its_code_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None  # nothing is committed
    code = tmp_path / CODE[0]
    code.mkdir()
    (code / "module.py").write_text("one = 1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("no code")
    monkeypatch.setenv("GIT_DIR", str(ROOT / ".git"))  # as in a hook of another repository
    assert commit(tmp_path) == head
    (code / "other.py").touch()
    assert commit(tmp_path) == f"{head}+changes"
    (code / "other.py").unlink()
    (code / "module.py").write_text("one = 2\n")
    assert commit(tmp_path) == f"{head}+changes"
    monkeypatch.setenv("PATH", "")
    assert commit(tmp_path) is None


def burn(seconds: float, begun: Any, end: Any) -> None:
    while time.process_time() < seconds:
        pass
    begun.set()
    end.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells of living processes")
def test_processor_seconds_count_workers_that_live_and_those_that_ended() -> None:
    context = multiprocessing.get_context("fork")
    begun, end = context.Event(), context.Event()
    before = processor_seconds()
    worker = context.Process(target=burn, args=(0.3, begun, end))
    worker.start()
    begun.wait()
    living = processor_seconds() - before
    end.set()
    worker.join()
    ended = processor_seconds() - before
    assert 0.28 < living < 2 and 0.28 < ended < 2  # a tick is 0.01 s
    started = Clock()
    started.start()
    time.sleep(0.2)
    started.stop(torch.device("cpu"))
    assert started.seconds > 0.19 > 10 * started.cpu_seconds  # sleep takes none


class FakeTime:
    """Seconds that pass only when somebody says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "processor_seconds", lambda: 3 * self.now)
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)

    def passes_in(self, monkeypatch: pytest.MonkeyPatch, step: str, seconds: float) -> None:
        """Let a step of the module take so long."""
        original = getattr(VAEModule, step)

        def slow(*given: Any) -> Any:
            self.now += seconds
            return original(*given)

        monkeypatch.setattr(VAEModule, step, slow)


def test_seconds_of_training_leave_out_validations_within_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 1 s of the wall and 3 of the processors, and a batch of validation 100."""
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
    fake.now += 100  # between the two
    second.clock.start()
    fake.now += 2
    second.clock.stop(torch.device("cpu"))
    assert second.clock.read() == (7, 21)
    of_an_earlier_version = Throughput()
    of_an_earlier_version.load_state_dict({"seconds": 7.0, "images": 10})
    of_an_earlier_version.clock.start()
    fake.now += 1
    assert of_an_earlier_version.clock.read() == (8, None)
