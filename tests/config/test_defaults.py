"""Results of the default configs that the README states; these tests train for minutes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.downloads import needs
from tests.helpers.forks import Train


@pytest.mark.slow
@needs("binarized_mnist")
def test_mlp_vae_on_binarized_mnist_is_below_100_nats(train: Train, tmp_path: Path) -> None:
    done = train("model=mlp_vae", "data=binarized_mnist")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test/nelbo"] < 100 and metrics["protocol"] == "dynamic"


@pytest.mark.slow
@needs("mnist")
def test_conv_vae_on_mnist_is_below_minus_450_nats(train: Train, tmp_path: Path) -> None:
    """The likelihood is a density of grey pixels, so the negative ELBO can be below 0."""
    done = train("model=conv_vae", "data=mnist")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test/nelbo"] < -450
