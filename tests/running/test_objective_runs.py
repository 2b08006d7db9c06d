"""Every objective through train.py, and parameters that are the objective's own."""

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
NEEDS = {"reconstruction": ["posterior=deterministic"], "vq_vae": ["model=vq_vae"]}
SMALL = ["model=mlp_vae", "data=digits", "trainer=smoke", "logger=csv", "callbacks.pictures=null"]
SHOWN = {
    "beta_tc": {"mutual_information", "total_correlation", "dimension_wise_kl"},
    "capacity": {"capacity", "gamma"},
    "factor": {"total_correlation", "discriminator"},
    "iwae": {"negative_bound"},
    "vq_vae": {"commitment"},
}
"""Terms beside those of the ELBO."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objectives")


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, Done]:
    runs = {name: [*SMALL, *NEEDS.get(name, []), f"objective={name}"] for name in OBJECTIVES}
    return train_all({name: [*parts, f"hydra.run.dir={folder / name}"] for name, parts in runs.items()}, folder)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_and_shows_its_terms(done: dict[str, Done], folder: Path, name: str) -> None:
    assert done[name].returncode == 0, done[name].stderr
    assert not [word for word in TROUBLE if word in done[name].stderr.lower()], done[name].stderr
    metrics = json.loads((folder / name / "metrics.json").read_text())
    assert math.isfinite(metrics["val/objective"]) and math.isfinite(metrics["test/reconstruction"])
    assert ("test/nelbo" in metrics) == (name != "reconstruction")
    (first, *_) = csv.DictReader((folder / name / "csv" / "metrics.csv").read_text().splitlines())
    terms = {"reconstruction"} | ({"nelbo", "kl"} if name != "reconstruction" else set()) | SHOWN.get(name, set())
    shown = {key.removeprefix("train/"): value for key, value in first.items() if key.startswith("train/") and value}
    assert terms <= shown.keys() and all(math.isfinite(float(value)) for value in shown.values())


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


def test_an_objectives_parameters_are_a_group_with_a_rate_of_their_own(tmp_path: Path) -> None:
    training = Training(tmp_path, "scheduler=cosine")
    training.module = module = module_of(training, lr=0.5, betas=[0.5, 0.9])
    training.fit()
    ours, own = training.trainer.optimizers[0].param_groups
    assert {id(parameter) for parameter in own["params"]} == {id(module.objective.level)}
    assert len(ours["params"]) == len(list(module.model.parameters()))
    assert (own["initial_lr"], own["betas"]) == (0.5, [0.5, 0.9])
    assert ours["initial_lr"] == 2e-3 and list(ours["betas"]) == [0.9, 0.999]
    assert own["lr"] < 1e-8 and ours["lr"] < 1e-8  # one cosine for both
    assert module.objective.level.abs().max() < 0.5  # type: ignore[operator, union-attr]


def test_no_parameters_no_group(tmp_path: Path) -> None:
    training = Training(tmp_path).fit()
    assert len(training.trainer.optimizers[0].param_groups) == 1


def test_an_objective_that_compares_images_refuses_batches_of_one_before_anything_is_written(tmp_path: Path) -> None:
    # 1,300 training images: 1,299 and one.
    runs = {"wae": ["model=mlp_vae", "data=digits", "objective=wae", "trainer=smoke", "data.batch_size=433"]}
    runs["wae"] += [f"hydra.run.dir={tmp_path / 'run'}"]
    done = train_all(runs, tmp_path)["wae"]
    told = "error: data.batch_size=433: leaves a batch of 1 of the 1300 train images, but this objective needs 2"
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_objectives_own_parameters_are_in_the_checkpoint(done: dict[str, Done], folder: Path) -> None:
    state = read_checkpoint(folder / "factor" / "checkpoints" / "best.ckpt")["state_dict"]
    assert any(key.startswith("objective.") for key in state)


def test_an_unnamed_refusal_is_a_config_error() -> None:
    assert str(Thermostat().refuse("no")) == "objective=: no"
    with pytest.raises(ConfigError):
        Objective(0)
