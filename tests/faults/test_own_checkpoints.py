"""The checkpoints of every config option contain plain types only: they load with `weights_only=True`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nelbo
from tests.helpers.forks import forked
from tests.helpers.shipped import CHECKPOINT_OPTIONS

SMALL = ("model=mlp_vae", "data=digits", "trainer=smoke", "logger=none", "callbacks=none")
NEEDS = {
    "likelihood=bernoulli": ["data.protocol=threshold"],
    "scheduler=exponential": ["scheduler.gamma=0.99"],
    "posterior=deterministic": ["model=autoencoder"],
    "objective=reconstruction": ["model=autoencoder"],
    "posterior=categorical": ["prior=categorical"],
    "posterior=vector_quantized": ["model=vq_vae"],
    "prior=categorical": ["posterior=categorical"],
    "prior=uniform": ["posterior=categorical"],
    "prior=autoregressive": ["model=vq_vae"],
    "objective=vq_vae": ["model=vq_vae"],
}
FEW = ("model=autoencoder", "posterior=flow", "prior=vamp", "likelihood=discretized_logistic_mixture", "logger=csv")


@pytest.mark.parametrize(
    "shipped", [pytest.param(option, marks=() if option in FEW else pytest.mark.slow) for option in CHECKPOINT_OPTIONS]
)
def test_own_checkpoints(tmp_path: Path, shipped: str) -> None:
    done = forked("train.py", *SMALL, *NEEDS.get(shipped, []), shipped, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    for name in ("best", "last"):
        file = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
        checkpoint = torch.load(file, weights_only=True)
        weights = nelbo.load(file).state_dict()
        assert weights and all(torch.equal(weights[key], checkpoint["state_dict"][f"model.{key}"]) for key in weights)


def test_the_selected_options_exist() -> None:
    assert set(FEW) <= set(CHECKPOINT_OPTIONS) and set(NEEDS) <= set(CHECKPOINT_OPTIONS)
