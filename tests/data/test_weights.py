"""Weights of training examples, the column `sample_weight`: what they change in the loss, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import nelbo
from nelbo.data.arrays import Arrays, Batch, Examples
from nelbo.data.module import ImageData
from nelbo.errors import DataError
from nelbo.objectives import Objective
from nelbo.training.batches import training_trace
from tests.helpers.factors import OBJECTIVES, images, make_vae
from tests.helpers.forks import forked

COUNT = 6
WEIGHTS = torch.tensor([0.0, 0.0, 2.0, 1.0, 0.0, 3.0])
WEIGHED = [name for name, make in OBJECTIVES.items() if make().weighs_examples and name != "semi_supervised"]


@pytest.mark.parametrize("name", WEIGHED)
def test_gradients_are_weighted_means_of_those_of_single_examples(name: str) -> None:
    prior = "standard_normal"
    posterior = "deterministic" if name == "reconstruction" else "diagonal_normal"
    model, x = make_vae("mlp", posterior, prior, "bernoulli").train(), images("bernoulli", COUNT)
    objective: Objective = OBJECTIVES[name]()

    def gradients(batch: Batch) -> list[torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        trace = training_trace(model, batch, objective.num_samples)
        objective(trace, 0).total.backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    weighted = gradients(Batch(x, torch.zeros(COUNT), {"sample_weight": WEIGHTS}))
    alone = [gradients(Batch(x, torch.zeros(COUNT), {"sample_weight": unit * COUNT})) for unit in torch.eye(COUNT)]
    expected = [sum(w * g for w, g in zip(WEIGHTS, each, strict=True)) / COUNT for each in zip(*alone, strict=True)]
    for got, wanted in zip(weighted, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    ones = gradients(Batch(x, torch.zeros(COUNT), {"sample_weight": torch.ones(COUNT)}))
    for got, wanted in zip(ones, gradients(Batch(x, torch.zeros(COUNT))), strict=True):
        torch.testing.assert_close(got, wanted)
    assert any(not torch.allclose(*pair) for pair in zip(weighted, ones, strict=True))


def arrays(weights: torch.Tensor) -> Arrays:
    images = torch.randint(0, 256, (len(weights), 1, 4, 4), dtype=torch.uint8)
    examples = Examples(images, torch.zeros(len(weights), dtype=torch.int64), columns={"sample_weight": weights})
    return Arrays(examples, replace(examples))


def data(weights: torch.Tensor) -> ImageData:
    made = ImageData(name="own", source=lambda: arrays(weights), batch_size=4, validation_size=2, levels=256)
    made.setup()
    return made


def test_weights_of_the_training_set_have_the_mean_one() -> None:
    made = data(torch.tensor([2.0, 4.0, 6.0, 8.0, 0.0, 10.0, 2.0, 8.0]))
    weights = torch.cat([batch.columns["sample_weight"] for batch in made.train_dataloader()])
    assert len(weights) == 6 and weights.mean().item() == pytest.approx(1)
    for bad, message in (
        (torch.tensor([1.0, -1.0] * 4), "has values from -1 to 1; must be finite numbers of at least 0"),
        (torch.zeros(8), "not all 0"),
        (torch.full((8,), torch.nan), "must be finite"),
        (torch.ones(8, 2), "needs one number for each example"),
    ):
        with pytest.raises(DataError, match=message):
            data(bad)


def test_a_run_with_weights(tmp_path: Path) -> None:
    """Images of weight 0 are not learned: the model's mean image is that of the others."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, 2, 400)
    x = (generator.random((400, 8, 8)) < np.where(kind, 0.9, 0.1)[:, None, None]).astype(np.uint8) * 255
    file = tmp_path / "own.npz"
    np.savez(file, images=x, sample_weight=kind.astype(np.float32))
    own = ("data=arrays", f"data.path={file}", "data.columns=[sample_weight]", "likelihood=bernoulli", "data.levels=2")
    run = ("train.py", "model=mlp_vae", *own, "callbacks=none", "logger=none", "threads=1")
    done = forked(*run, "trainer.max_epochs=30", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    assert nelbo.load(tmp_path / "run").generate(200).mean.mean() > 0.75  # without weights about 0.5
    refused = forked(*run, "objective=beta_tc", f"hydra.run.dir={tmp_path / 'other'}")
    message = "objective=beta_tc: gives examples no weights, and arrays has some (sample_weight); use objective=elbo"
    assert refused.returncode == 2 and message in refused.stderr, refused.stderr
