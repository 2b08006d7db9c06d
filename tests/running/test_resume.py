"""Resuming a run with other processes, versions or config keys than it began with, and by its directory alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from nelbo.checkpoints.record import read_checkpoint
from nelbo.config.quoting import quoted
from nelbo.running.first_command import with_first_arguments
from tests.helpers.forks import ROOT, forked
from tests.helpers.interrupted import SMALL, assert_same_run, run

CHOSEN = ["trainer.max_epochs=2"]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that stopped after the third of six steps of its second epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    assert run(folder, CHOSEN, "train:9:SIGTERM").returncode == 143
    return folder


def edit_checkpoint(folder: Path, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a checkpoint in place."""
    file = folder / "checkpoints" / f"{name}.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    edit(checkpoint)
    torch.save(checkpoint, file)


def two_processes(checkpoint: dict[str, Any]) -> None:
    """Change the record to two processes, as earlier versions wrote it, without the environment."""
    checkpoint["random_states"]["ranks"] *= 2
    checkpoint["nelbo"].pop("environment")


def test_another_number_of_processes_is_refused_within_an_epoch(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    edit_checkpoint(tmp_path / "run", "last", two_processes)
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    done = run(tmp_path / "run", CHOSEN)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "stopped within an epoch, after 3 batches in each of 2 processes; there are now 1" in line
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_another_number_of_processes_is_recorded_at_an_epochs_end(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    edit_checkpoint(tmp_path / "run", "best", two_processes)
    done = run(tmp_path / "run", CHOSEN)
    assert done.returncode == 0, done.stderr
    assert "from step 6 on with processes 1, which was 2" in done.stderr
    resumed = json.loads((tmp_path / "run" / "metrics.json").read_text())["resumed"]
    assert resumed == [{"step": 6, "changes": {"environment.processes": [2, 1]}}]
    last = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert last["nelbo"]["resumed"] == resumed and last["nelbo"]["environment"]["processes"] == 1
    assert len(last["random_states"]["ranks"]) == 1


def test_other_versions_are_logged_and_recorded(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    edit_checkpoint(tmp_path / "run", "last", lambda checkpoint: checkpoint["nelbo"]["environment"].update(hydra="0.1"))
    done = run(tmp_path / "run", [*CHOSEN, "threads=1"])
    assert done.returncode == 0 and "from step 9 on with hydra" in done.stderr, done.stderr
    (entry,) = json.loads((tmp_path / "run" / "metrics.json").read_text())["resumed"]
    assert entry["step"] == 9 and entry["changes"]["environment.hydra"][0] == "0.1"


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the recorded config of a run, as if the shipped config had been different when the run began."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    edit(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_a_directory_alone_resumes_the_run_unchanged(stopped: Path, tmp_path: Path) -> None:
    """Without the arguments that began it, the run ends like one that was not stopped."""
    assert run(tmp_path / "whole", CHOSEN).returncode == 0
    folder = Path(shutil.copytree(stopped, tmp_path / "it's a 'run' [1]"))
    done = forked("train.py", f"resume={quoted(str(folder))}")
    assert done.returncode == 0 and "step 9, 1 epochs completed" in done.stderr, done.stderr
    assert_same_run(tmp_path / "whole", folder)
    assert "resumed" not in json.loads((folder / "metrics.json").read_text())
    again = forked("train.py", f"resume={quoted(str(folder))}")
    assert again.returncode == 0 and "this run is complete" in again.stderr, again.stderr


def test_arguments_beside_a_directory_change_the_recorded_config(stopped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    refused = forked("train.py", "optimizer.lr=0.5", f"resume={folder}")
    assert refused.returncode == 2 and refused.stderr.endswith(
        "began with another config: optimizer.lr 0.002 -> 0.5; allow it with 'resume_changes=[optimizer.lr]'\n"
    )
    other = forked("train.py", "data.validation_size=100", f"resume={folder}")
    start = f"no run resumes with other data: init_from={folder} starts another one, in another directory, from its"
    assert other.returncode == 2 and start in other.stderr and "resume_changes" not in other.stderr, other.stderr
    done = forked("train.py", f"resume={folder}", "trainer.max_epochs=3", "data=digits", "callbacks=none")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["epochs"] == 3 and metrics["resumed"] == [{"step": 9, "changes": {"trainer.max_epochs": [2, 3]}}]
    assert "is complete" in forked("train.py", f"resume={folder}").stderr  # with the changed length


def test_a_value_that_has_changed_in_the_shipped_config_keeps_its_recorded_value(stopped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    edit_config(folder, lambda config: config["guard"].update(skip_above=1e6))
    refused = run(folder, CHOSEN)  # the same arguments, which now compose another config
    assert refused.returncode == 2 and "guard.skip_above 1000000.0 -> null" in refused.stderr
    done = forked("train.py", f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((folder / "config.yaml").read_text())["guard"]["skip_above"] == 1e6
    assert "resumed" not in json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("alone", [True, False])
def test_a_key_that_is_newer_than_the_run_is_no_change(stopped: Path, tmp_path: Path, alone: bool) -> None:
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    edit_config(folder, lambda config: [config["trainer"].pop("gradient_clip_val"), config["trainer"].pop("precision")])
    done = forked("train.py", f"resume={folder}") if alone else run(folder, CHOSEN)
    assert done.returncode == 0, done.stderr
    refused = run(folder, [*CHOSEN, "trainer.max_epochs=3", "trainer.precision=bf16-mixed"])
    assert refused.returncode == 2 and "trainer.precision 32-true -> bf16-mixed" in refused.stderr
    edit_config(folder, lambda config: config["trainer"].pop("precision"))
    refused = run(folder, [*CHOSEN, "trainer.max_epochs=3", "trainer.precision=bf16-mixed"])
    assert refused.returncode == 2 and "trainer.precision null -> bf16-mixed" in refused.stderr


def test_a_key_that_the_first_arguments_left_out_is_a_change(stopped: Path, tmp_path: Path) -> None:
    """In contrast to a key that a later version has added."""
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    refused = run(folder, [*CHOSEN, "callbacks=default"])
    assert refused.returncode == 2 and "callbacks.progress null -> " in refused.stderr


def test_a_run_without_a_record_of_its_arguments_asks_for_them(stopped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    (folder / "overrides.yaml").unlink()
    refused = forked("train.py", f"resume={folder}")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
    assert "repeat the arguments that began the run, with hydra.run.dir=" in refused.stderr


def test_a_model_with_other_tensors_needs_a_new_run(stopped: Path, tmp_path: Path) -> None:
    """Both refusals give the same hint, which works."""
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    other, hint = ("model.latent_dim=3", f"resume={folder}"), f"init_from={folder} hydra.run.dir=NEW\n"
    refused = forked("train.py", *other)
    assert refused.returncode == 2 and refused.stderr.endswith(
        f"'resume_changes=[model.latent_dim]'; a model with other tensors is a new run that starts from these: {hint}"
    )
    refused = forked("train.py", *other, "resume_changes=[model.latent_dim]")
    assert refused.returncode == 2 and refused.stderr.endswith(
        f"its tensors do not match this config's model; start a new run from those that fit, without resume: {hint}"
    )
    done = run(tmp_path / "new", ["trainer.max_epochs=1", other[0], f"init_from={folder}"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("place", ["--config-dir={}", "hydra.searchpath=[{}]"])
def test_a_directory_alone_resumes_with_the_configs_of_its_run(tmp_path: Path, place: str) -> None:
    """From their recorded folder; if that was moved, the error names it, and the new one may be typed."""
    mine, folder = tmp_path / "cd", tmp_path / "run"
    (mine / "experiment").mkdir(parents=True)
    file = mine / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\noptimizer:\n  lr: 0.003\n")
    relative = os.path.relpath(mine, ROOT)
    arguments = (*SMALL, "trainer=smoke", "experiment=mine", f"hydra.run.dir={folder}")
    assert forked("train.py", place.format(relative), *arguments).returncode == 0
    name = place.partition("=")[0]
    assert yaml.safe_load((folder / "overrides.yaml").read_text())[0].startswith(f"{name}=")
    done = forked("train.py", f"resume={folder}", "trainer.max_epochs=2")
    assert done.returncode == 0 and json.loads((folder / "metrics.json").read_text())["epochs"] == 2, done.stderr

    mine.rename(tmp_path / "moved")
    gone = forked("train.py", f"resume={folder}", "trainer.max_epochs=3")
    (line,) = gone.stderr.splitlines()
    assert gone.returncode == 2 and line.startswith(
        f"error: {name}={mine}: the run in {folder} began with its configs there"
    )
    assert f"the folder does not exist any more; name the current one: {name}=" in line
    done = forked("train.py", place.format(tmp_path / "moved"), f"resume={folder}", "trainer.max_epochs=3")
    assert done.returncode == 0 and json.loads((folder / "metrics.json").read_text())["epochs"] == 3, done.stderr

    overrides = yaml.safe_load((folder / "overrides.yaml").read_text())[1:]  # as earlier versions wrote it
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    old = forked("train.py", f"resume={folder}", "trainer.max_epochs=4")
    assert old.returncode == 2 and old.stderr.startswith("error: experiment=mine: there is no such option; ")
    assert old.stderr.endswith(
        f"; the run in {folder} began with this argument: if its configs are in another folder, name it: "
        "--config-dir=FOLDER\n"
    )
    typo = forked("train.py", f"resume={folder}", "model=mlp_vea", f"--config-dir={tmp_path / 'moved'}")
    assert typo.returncode == 2 and "began with" not in typo.stderr


@pytest.mark.parametrize(
    ("recorded", "typed", "together"),
    [
        (["data=digits", "+a.b=1"], ["a.b=2"], ["data=digits", "+a.b=1", "resume=DIR", "a.b=2"]),
        (["~callbacks.x", "seed=1"], ["~callbacks.x"], ["seed=1", "resume=DIR", "~callbacks.x"]),
        (["resume=auto", "resume_changes=[seed]", "sweep=seeds", "seed=1"], ["seed=2"], ["resume=DIR", "seed=2"]),
        (["seed=1"], ["--cfg", "job"], ["seed=1", "resume=DIR", "--cfg", "job"]),
        (["seed=1"], ["-m"], ["resume=DIR", "-m"]),
        (
            ["--config-dir=/tmp", "--config-name=own", "seed=1"],
            [],
            ["--config-dir=/tmp", "--config-name=own", "seed=1", "resume=DIR"],
        ),
        (["--config-dir=/gone"], ["-cd", "/tmp"], ["resume=DIR", "-cd", "/tmp"]),
    ],
)
def test_recorded_arguments_stand_before_the_typed_ones(
    recorded: list[str], typed: list[str], together: list[str], tmp_path: Path
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "overrides.yaml").write_text(yaml.safe_dump(recorded))
    resume = f"resume={tmp_path}"
    expected = [argument.replace("resume=DIR", resume) for argument in together]
    assert with_first_arguments([resume, *typed]) == expected
    assert with_first_arguments(expected) == expected  # other processes start with the arguments of the first


def test_each_checkpoint_is_read_once(stopped: Path, tmp_path: Path) -> None:
    """Both when the run resumes, and the best one before it is tested."""
    shutil.copytree(stopped, tmp_path / "run")
    arguments = [*SMALL, *CHOSEN, f"hydra.run.dir={tmp_path / 'run'}", "resume=auto"]
    done = forked("tests/helpers/reads.py", *arguments, READS=str(tmp_path / "reads"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reads").read_text().split() == ["best.ckpt", "last.ckpt", "best.ckpt"]
