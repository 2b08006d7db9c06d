"""Every objective in a run of train.py, and objectives with parameters of their own."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nelbo.checkpoints.record import read_checkpoint
from nelbo.errors import ConfigError
from nelbo.objectives import Loss, Objective
from nelbo.trace import Trace
from nelbo.training import VAEModule
from tests.helpers.diverging import Training
from tests.helpers.errors_of_commands import TROUBLE
from tests.helpers.forks import ROOT, Done, train_all

OBJECTIVES = sorted(path.stem for path in (ROOT / "conf" / "objective").glob("*.yaml"))
REQUIRED = {"reconstruction": ["posterior=deterministic"], "vq_vae": ["model=vq_vae"]}
REQUIRED["semi_supervised"] = ["conditioning=semi_supervised", "data.labelled=20", "data.labelled_copies=20"]
SMALL = ["model=mlp_vae", "data=digits", "trainer=smoke", "logger=csv", "callbacks.pictures=null"]
EXTRA_TERMS = {
    "beta_tc": {"mutual_information", "total_correlation", "dimension_wise_kl"},
    "capacity": {"capacity", "gamma"},
    "factor": {"total_correlation", "discriminator"},
    "iwae": {"negative_bound"},
    "semi_supervised": {"classification"},
    "vq_vae": {"commitment"},
}
"""Logged terms in addition to those of the ELBO."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objectives")


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, Done]:
    runs = {name: [*SMALL, *REQUIRED.get(name, []), f"objective={name}"] for name in OBJECTIVES}
    return train_all({name: [*parts, f"hydra.run.dir={folder / name}"] for name, parts in runs.items()}, folder)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_and_logs_its_terms(done: dict[str, Done], folder: Path, name: str) -> None:
    assert done[name].returncode == 0, done[name].stderr
    assert not [text for text in TROUBLE if text in done[name].stderr.lower()], done[name].stderr
    metrics = json.loads((folder / name / "metrics.json").read_text())
    assert math.isfinite(metrics["val/objective"]) and math.isfinite(metrics["test/reconstruction"])
    assert ("test/nelbo" in metrics) == (name != "reconstruction")
    (first, *_) = csv.DictReader((folder / name / "csv" / "metrics.csv").read_text().splitlines())
    terms = {"reconstruction"} | ({"nelbo", "kl"} if name != "reconstruction" else set()) | EXTRA_TERMS.get(name, set())
    logged = {key.removeprefix("train/"): value for key, value in first.items() if key.startswith("train/") and value}
    assert terms <= logged.keys() and all(math.isfinite(float(value)) for value in logged.values())


class Thermostat(Objective):
    """An objective with a parameter of its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(1)
        self.options = options
        self.level = nn.Parameter(torch.ones(3))

    def forward(self, trace: Trace, step: float) -> Loss:
        total: Tensor = -trace.log_px.mean() + trace.kl.mean() + self.level.square().sum()
        return Loss(total, {})

    def optimizer_options(self) -> dict[str, Any]:
        return self.options


def module_of(training: Training, **options: Any) -> VAEModule:
    old = training.module
    return VAEModule(old.model, Thermostat(**options), old.optimizer, old.scheduler, old.example, None, {"model": {}})


def test_the_parameters_of_an_objective_are_a_group_with_their_own_learning_rate(tmp_path: Path) -> None:
    training = Training(tmp_path, "scheduler=cosine")
    training.module = module = module_of(training, lr=0.5, betas=[0.5, 0.9])
    training.fit()
    of_model, of_objective = training.trainer.optimizers[0].param_groups
    assert {id(parameter) for parameter in of_objective["params"]} == {id(module.objective.level)}
    assert len(of_model["params"]) == len(list(module.model.parameters()))
    assert (of_objective["initial_lr"], of_objective["betas"]) == (0.5, [0.5, 0.9])
    assert of_model["initial_lr"] == 2e-3 and list(of_model["betas"]) == [0.9, 0.999]
    assert of_objective["lr"] < 1e-8 and of_model["lr"] < 1e-8  # one cosine schedule for both
    assert module.objective.level.abs().max() < 0.5  # type: ignore[operator, union-attr]


def test_an_objective_without_parameters_has_no_group(tmp_path: Path) -> None:
    training = Training(tmp_path).fit()
    assert len(training.trainer.optimizers[0].param_groups) == 1


def test_an_objective_that_compares_images_refuses_batches_of_one(tmp_path: Path) -> None:
    # 1,300 training images: three batches of 433, and one of a single image.
    runs = {"wae": ["model=mlp_vae", "data=digits", "objective=wae", "trainer=smoke", "data.batch_size=433"]}
    runs["wae"] += [f"hydra.run.dir={tmp_path / 'run'}"]
    done = train_all(runs, tmp_path)["wae"]
    message = "error: data.batch_size=433: leaves a batch of 1 of the 1300 train images, but this objective needs 2"
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_parameters_of_an_objective_are_in_the_checkpoint(done: dict[str, Done], folder: Path) -> None:
    state = read_checkpoint(folder / "factor" / "checkpoints" / "best.ckpt")["state_dict"]
    assert any(key.startswith("objective.") for key in state)


def test_the_refusal_of_an_objective_without_a_name_is_a_config_error() -> None:
    assert str(Thermostat().refuse("no")) == "objective=: no"
    with pytest.raises(ConfigError):
        Objective(0)
