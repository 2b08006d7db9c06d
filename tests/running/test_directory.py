"""A run's directory: what a new run may not take, and which run `resume=` means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nelbo.config.identity import FREE_TO_CHANGE, identity
from nelbo.errors import CheckpointError
from nelbo.running.directory import mark, run_directory
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL, run
from tests.helpers.run_directories import ONE_EPOCH, contents, start_run


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ended") / "run"
    assert start_run(folder, "logger=tensorboard").returncode == 0
    return folder


def test_a_run_is_not_written_over(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "run")
    before = contents(tmp_path / "run")
    refused = start_run(tmp_path / "run")
    assert refused.returncode == 2 and "holds a run with checkpoints; resume=auto continues it" in refused.stderr
    assert contents(tmp_path / "run") == before


def test_results_whose_checkpoints_are_gone_are_kept(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    before = contents(tmp_path / "run")
    for again in (["seed=3"], ["seed=3", "resume=auto"]):
        refused = start_run(tmp_path / "run", *again)
        assert refused.returncode == 2 and "holds metrics.json already; give another directory" in refused.stderr
        assert contents(tmp_path / "run") == before


def test_runs_below_a_run_are_left_alone(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "other" / "run")
    (tmp_path / "other" / "run" / ".partial-last.ckpt.1").write_text("being written")
    before = contents(tmp_path / "other")
    assert start_run(tmp_path).returncode == 0
    assert run(tmp_path, ["trainer.max_epochs=2"]).returncode == 0
    assert contents(tmp_path / "other") == before


def test_a_finished_run_says_so_and_changes_nothing(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "run")
    before = contents(tmp_path / "run")
    done = start_run(tmp_path / "run", "logger=tensorboard", "resume=auto")
    assert done.returncode == 0 and "this run is complete" in done.stderr and "negative ELBO" in done.stdout
    assert contents(tmp_path / "run") == before


def test_fewer_epochs_than_a_run_has_trained_are_refused(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "run")
    assert start_run(tmp_path / "run", "logger=tensorboard", "resume=auto", "trainer.max_epochs=2").returncode == 0
    before = contents(tmp_path / "run")
    refused = start_run(tmp_path / "run", "logger=tensorboard", "resume=auto")
    assert refused.returncode == 2 and "trainer.max_epochs=1" in refused.stderr
    assert f"{tmp_path / 'run'} has trained 2 epochs already" in refused.stderr
    assert contents(tmp_path / "run") == before


def test_a_lost_best_checkpoint_is_said_or_made_again(ended: Path, tmp_path: Path) -> None:
    shutil.copytree(ended, tmp_path / "run")
    best, last = (tmp_path / "run" / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    best.unlink()
    (tmp_path / "run" / "metrics.json").unlink()
    refused = start_run(tmp_path / "run", "logger=tensorboard", "resume=auto")
    assert refused.returncode == 2 and f"{best}: is missing, and training is complete" in refused.stderr
    shutil.copy(last, best)  # the hint that it names
    assert start_run(tmp_path / "run", "logger=tensorboard", "resume=auto").returncode == 0
    best.write_bytes(b"damaged")
    changed = ("trainer.max_epochs=2", "optimizer.lr=1e-9", "resume_changes=[optimizer.lr]")
    longer = start_run(tmp_path / "run", "logger=tensorboard", "resume=auto", *changed)
    assert longer.returncode == 0 and "skipped in favour of" in longer.stderr, longer.stderr
    changes = json.loads((tmp_path / "run" / "metrics.json").read_text())["resumed"][0]["changes"]
    assert changes == {"trainer.max_epochs": [1, 2], "optimizer.lr": [0.002, 1e-9]}


def test_a_checkpoint_of_a_later_version_is_not_passed_over(ended: Path, tmp_path: Path) -> None:
    import torch

    shutil.copytree(ended, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["nelbo"]["format"] = 99
    torch.save(checkpoint, last)
    (tmp_path / "run" / "metrics.json").unlink()
    refused = start_run(tmp_path / "run", "logger=tensorboard", "resume=auto")
    assert refused.returncode == 2 and f"{last}: has format 99" in refused.stderr


@pytest.mark.parametrize(
    ("fault", "status"), [("test:1:SIGTERM", 143), ("train:2:SIGUSR1", 138)], ids=["in the test", "outside Slurm"]
)
def test_signals_that_come_elsewhere(tmp_path: Path, fault: str, status: int) -> None:
    assert run(tmp_path, ONE_EPOCH, fault).returncode == status
    assert run(tmp_path, ONE_EPOCH).returncode == 0


PLAIN = {"seed": 0, "trainer": {"max_epochs": 3}, "budget": {"epochs": 3}, "model": {"latent_dim": 2}}


def test_which_run_resume_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(resume: object, **changes: object) -> str:
        plain = {**PLAIN, **changes}
        return run_directory(tmp_path, resume, "fresh", lambda: plain).relative_to(tmp_path).as_posix()  # type: ignore[arg-type]

    for name, plain in (("day/one", PLAIN), ("named", {**PLAIN, "seed": 1})):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / ".run").write_text(mark(plain))
    assert place(None) == "fresh" and place("auto") == "day/one" and place("auto", seed=1) == "named"
    assert place("auto", seed=2) == "fresh"
    assert place("auto", trainer={"max_epochs": 9}, budget={"epochs": 9}) == "day/one"
    for wrong in (str(tmp_path / "nothing"), str(tmp_path / "named"), 2024, True, ["a"]):
        with pytest.raises(CheckpointError, match="is not a run's directory"):
            place(wrong)
    (tmp_path / "named" / "checkpoints").mkdir()
    assert place(str(tmp_path / "named")) == "named"
    assert identity(PLAIN, FREE_TO_CHANGE) != identity(PLAIN)


def test_a_resume_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    done = forked("train.py", *SMALL, "resume=nowhere")
    assert done.returncode == 2
    assert done.stderr == "error: resume=nowhere: is not a run's directory; give one, or resume=auto\n"
