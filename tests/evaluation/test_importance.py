"""The importance-weighted likelihood against exact likelihoods."""

from __future__ import annotations

import math

import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.evaluation import log_likelihood
from tests.helpers.exact import DENSITIES, exact
from tests.helpers.factors import images, make_vae


@pytest.mark.parametrize("posterior", DENSITIES)
@pytest.mark.parametrize("prior", ["standard_normal", "diagonal_normal"])
def test_weights_average_to_the_likelihood_of_linear_models(posterior: str, prior: str) -> None:
    """The mean of estimate / p(x) over many repetitions is 1 within its standard error, for every q."""
    model = make_vae("linear", posterior, prior, "gaussian_scheduled").double().eval()
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        x = images(count=1).double().expand(2000, -1, -1, -1)
        ratio = (log_likelihood(model, x, 50) - exact(model, x)).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(ratio))
    assert ratio.std() / math.sqrt(len(ratio)) < 0.05


def test_more_samples_approach_the_likelihood_from_below() -> None:
    model = make_vae("linear", likelihood="gaussian_scheduled").double().eval()
    x = images(count=1).double().expand(500, -1, -1, -1)
    with torch.no_grad():
        gaps = [(exact(model, x) - log_likelihood(model, x, samples)).mean().item() for samples in (1, 10, 100)]
    assert gaps[0] > gaps[1] > gaps[2] > -0.01 and gaps[2] < 0.1 * gaps[0]


def test_invalid_options_and_models_without_a_density() -> None:
    with pytest.raises(ConfigError, match="num_samples=0"):
        log_likelihood(make_vae(), images(), 0)
    with pytest.raises(NotImplementedError, match="no log q"):
        log_likelihood(make_vae(posterior="deterministic"), images(), 2)
