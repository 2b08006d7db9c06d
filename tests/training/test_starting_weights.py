"""init_from: the weights of another run, on other data or with another head; those that fit are loaded."""

from __future__ import annotations

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from nelbo.checkpoints.record import read_checkpoint
from nelbo.config.identity import identity
from nelbo.errors import ConfigError
from nelbo.training.weights import fit, start_from
from tests.helpers.diverging import Training
from tests.helpers.forks import Done, forked
from tests.helpers.interrupted import SMALL

NETS = ("model.encoder.hidden=[16]", "model.decoder.hidden=[16]", "model.latent_dim=4", "trainer.max_epochs=1")


def train(folder: Path, *overrides: str, fault: str = "nowhere:0:SIGTERM") -> Done:
    return forked("tests/helpers/stopping.py", fault, *SMALL, *NETS, *overrides, f"hydra.run.dir={folder}")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits with a Gaussian head."""
    folder = tmp_path_factory.mktemp("source") / "run"
    done = train(folder)
    assert done.returncode == 0, done.stderr
    return folder


def metrics_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_starts_from_the_weights_of_another(source: Path, tmp_path: Path) -> None:
    """With a learning rate of almost zero its results are those of the other run."""
    done = train(tmp_path / "run", f"init_from={source}", "seed=1", "optimizer.lr=1e-30")
    assert done.returncode == 0, done.stderr
    metrics, before = metrics_of(tmp_path / "run"), metrics_of(source)
    assert metrics["test/kl"] == pytest.approx(before["test/kl"], rel=1e-6)
    best = read_checkpoint(source / "checkpoints" / "best.ckpt")
    assert (metrics["init_from"]["taken"], metrics["init_from"]["missing"]) == (len(best["state_dict"]), 0)
    record = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["nelbo"]["init_from"]
    assert record["taken"] == list(best["state_dict"]) and record["step"] == best["global_step"] == 6
    assert record["provenance"] == best["nelbo"]["provenance"] and len(record["sha256"]) == 64
    assert f"init_from={source}: tensors loaded ({len(record['taken'])}): encoder.layers.1.weight, " in done.stderr


def test_with_other_data_and_another_head_the_weights_that_fit_are_loaded(source: Path, tmp_path: Path) -> None:
    """With images of another size these are all but the first and the last layer, which the log lists."""
    pixels = np.random.default_rng(0).choice([0, 255], (399, 6, 6)).astype(np.uint8)
    np.savez(tmp_path / "images.npz", x_train=pixels[:300], x_test=pixels[300:])
    other = ["data=arrays", f"data.path={tmp_path / 'images.npz'}", "data.validation_size=100", "likelihood=bernoulli"]
    done = train(tmp_path / "run", f"init_from={source}", *other)
    assert done.returncode == 0, done.stderr
    lines = [line.partition(": tensors ")[2] for line in done.stderr.splitlines() if line.startswith("init_from=")]
    groups = ["loaded", "of another shape, not loaded", "not in this model"]
    assert [line.partition(" (")[0] for line in lines] == groups
    assert "encoder.layers.1.weight" in lines[1] and "likelihood.log_sigma" in lines[2]


def module(*overrides: str, folder: Path) -> Any:
    return Training(folder, *overrides).module


def test_values_of_the_config_and_the_data_are_not_loaded(tmp_path: Path) -> None:
    overrides = ["likelihood=gaussian_fixed", "objective=beta_tc"]
    ours = module(*overrides, "model.likelihood.sigma=0.5", folder=tmp_path)
    theirs = module(*overrides, "model.likelihood.sigma=0.1", folder=tmp_path)
    theirs.objective.prepare(7)
    comparison = fit(ours, theirs.state_dict())
    assert set(comparison.kept) == {"model.likelihood.sigma", "objective.num_examples"}
    assert not set(comparison.kept) & set(comparison.taken) and not comparison.missing and not comparison.unused
    torch.save({"nelbo": {"format": 2}, "state_dict": theirs.state_dict()}, tmp_path / "theirs.ckpt")
    start_from(ours, str(tmp_path / "theirs.ckpt"))
    assert ours.model.likelihood.sigma == 0.5 and ours.objective.num_examples != 7
    name = comparison.taken[0]
    assert torch.equal(ours.state_dict()[name], theirs.state_dict()[name])


def test_learned_buffers_are_loaded(tmp_path: Path) -> None:
    """A codebook and an optimal sigma are buffers."""
    for overrides, buffer in (
        (["posterior=vector_quantized", "prior=categorical", "objective=vq_vae"], "codebook"),
        (["likelihood=gaussian_optimal"], "likelihood.variance"),
    ):
        ours = module(*overrides, folder=tmp_path)
        assert [name for name in fit(ours, ours.state_dict()).taken if buffer in name]


def test_a_checkpoint_without_a_tensor_that_fits_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "not a checkpoint.ckpt").write_bytes(b"no")
    torch.save({"nelbo": {"format": 2}, "state_dict": {"a": torch.zeros(2)}}, tmp_path / "other.ckpt")
    ours = module(folder=tmp_path)
    for place, message in {
        "nothing": "no such checkpoint",
        "not a checkpoint.ckpt": "not a readable checkpoint",
        "other.ckpt": r"none of its tensors fits this model: tensors not in the .*; tensors not in this model \(1\): a",
    }.items():
        with pytest.raises(ConfigError, match=rf"^init_from=.*{message}"):
            start_from(ours, str(tmp_path / place))
    refused = train(tmp_path / "run", f"init_from={tmp_path / 'nothing'}")
    assert refused.returncode == 2 and refused.stderr.startswith("error: init_from=")
    assert len(refused.stderr.splitlines()) == 1 and not (tmp_path / "run" / "config.yaml").exists()


def test_long_lists_are_shortened_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = torch.nn.ModuleList([torch.nn.Linear(1, 1) for _ in range(15)])
    torch.save({"nelbo": {"format": 2}, "state_dict": ours.state_dict()}, tmp_path / "theirs.ckpt")
    with caplog.at_level(logging.INFO):
        origin = start_from(ours, str(tmp_path / "theirs.ckpt"))
    assert len(origin["taken"]) == 30 and caplog.messages[-1].endswith(", 9.weight, 9.bias and 10 more")


def test_the_weights_that_a_run_starts_from_are_identified_by_their_content(source: Path, tmp_path: Path) -> None:
    """A moved source makes the same run, another one at the same path does not; null is the same as no such key."""
    plain = {"seed": 0, "init_from": str(source)}
    shutil.copytree(source, tmp_path / "moved")
    assert identity({**plain, "init_from": str(tmp_path / "moved")}) == identity(plain)
    assert identity({**plain, "init_from": str(source / "checkpoints" / "best.ckpt")}) == identity(plain)
    assert identity({"seed": 0, "init_from": None}) == identity({"seed": 0}) != identity(plain)
    with (tmp_path / "moved" / "checkpoints" / "best.ckpt").open("ab") as file:
        file.write(b"!")
    assert identity({**plain, "init_from": str(tmp_path / "moved")}) != identity(plain)


def test_a_run_resumes_from_its_own_weights_after_its_source_was_deleted(source: Path, tmp_path: Path) -> None:
    overrides = [f"init_from={tmp_path / 'source'}", "trainer.max_epochs=2"]
    shutil.copytree(source, tmp_path / "source")
    assert train(tmp_path / "whole", *overrides).returncode == 0
    assert train(tmp_path / "run", *overrides, fault="train:9:SIGTERM").returncode == 143
    shutil.rmtree(tmp_path / "source")
    for other in (f"init_from={source / 'checkpoints' / 'last.ckpt'}", "init_from=null"):
        refused = forked("train.py", f"resume={tmp_path / 'run'}", other, "resume_changes=[init_from]")
        assert refused.returncode == 2 and "resumes from its own weights" in refused.stderr, refused.stderr
    done = forked("train.py", f"resume={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    whole, parts = metrics_of(tmp_path / "whole"), metrics_of(tmp_path / "run")
    assert parts["identity"] == whole["identity"] and parts["init_from"] == whole["init_from"]
    assert math.isclose(parts["test/nelbo"], whole["test/nelbo"], rel_tol=1e-6)
    again = forked("train.py", f"resume={tmp_path / 'run'}")
    assert again.returncode == 0 and "this run is complete" in again.stderr
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["init_from"] == str(tmp_path / "source")
    moved = forked("train.py", f"resume={tmp_path / 'run'}", f"init_from={source}", "trainer.max_epochs=3")
    assert moved.returncode == 0, moved.stderr  # the same weights at another path
