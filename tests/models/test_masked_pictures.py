"""Models of images of which some pixels are unknown: the likelihood of the others, and what the encoder is given."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from nelbo.distributions import (
    BernoulliPixels,
    BetaPixels,
    CategoricalPixels,
    ContinuousBernoulli,
    DiscretizedGaussian,
    DiscretizedLogistic,
    LaplacePixels,
    NormalPixels,
    ObservedPixels,
    has_pixels,
)
from nelbo.errors import ConfigError
from nelbo.evaluation import importance
from nelbo.evaluation.masked import for_measures
from nelbo.heads import (
    Bernoulli,
    DiagonalNormalPosterior,
    DiscretizedLogisticMixture,
    FixedGaussian,
    LearnedGaussian,
    OptimalGaussian,
)
from nelbo.models import VAE, MaskedInputs
from nelbo.nets import MLP
from nelbo.priors import StandardNormal

SHAPE = (2, 2, 3)


def masked_model(likelihood: Any, hidden: list[int], latent_dim: int, mask: bool = True, **rest: Any) -> VAE:
    net = partial(MLP, hidden=hidden, activation="GELU")
    parts = {"encoder": net, "decoder": net, "posterior": DiagonalNormalPosterior, "prior": StandardNormal}
    inputs = partial(MaskedInputs, mask=mask)
    return VAE(shape=SHAPE, latent_dim=latent_dim, likelihood=likelihood, inputs=inputs, **{**parts, **rest})


def test_the_likelihood_of_observed_pixels_of_a_linear_model_is_exact() -> None:
    """Probabilistic PCA: the marginal of some pixels is Gaussian; importance sampling agrees within three errors."""
    torch.manual_seed(0)
    model = masked_model(partial(FixedGaussian, sigma=0.5), [], 2).eval()
    affine = model.likelihood.project.layers[0]
    with torch.no_grad():
        affine.weight.mul_(2)
    weight, mean = affine.weight.detach().double(), affine.bias.detach().double()
    covariance = weight @ weight.T + 0.25 * torch.eye(12, dtype=torch.double)
    x = MultivariateNormal(mean, covariance).sample((8,)).float().reshape(8, *SHAPE)
    observed = torch.rand(8, *SHAPE) < 0.6
    observed[0], observed[1] = True, False
    stored = torch.where(observed, x, 0)
    found = importance(model.given({"observed": observed}), stored, 20_000, keep_log_weights=True)
    weights = found.log_weights.double()
    relative = (weights - weights.amax(0)).exp()
    error = relative.std(0) / relative.mean(0) / math.sqrt(len(weights))
    for row in range(8):
        o = observed[row].flatten()
        part = covariance[o][:, o]
        exact = MultivariateNormal(mean[o], part).log_prob(x[row].flatten().double()[o]) if o.any() else torch.zeros(())
        assert (found.log_likelihood[row].double() - exact).abs() <= 3 * error[row] + 1e-4, row
    everything = importance(model, stored, 100).log_likelihood
    assert (everything - found.log_likelihood)[1:].abs().min() > 1


PIXELS: dict[str, Any] = {
    "bernoulli": lambda loc: BernoulliPixels(loc),
    "normal": lambda loc: NormalPixels(loc, torch.tensor(0.3)),
    "normal per channel": lambda loc: NormalPixels(loc, torch.tensor([0.3, 2.0]).reshape(2, 1, 1)),
    "laplace": lambda loc: LaplacePixels(loc, torch.tensor(0.3)),
    "beta": lambda loc: BetaPixels(loc, torch.tensor(10.0), levels=4),
    "categorical": lambda loc: CategoricalPixels(loc.unsqueeze(-3) * torch.linspace(-1, 2, 4).reshape(4, 1, 1)),
    "discretized logistic": lambda loc: DiscretizedLogistic(loc, torch.tensor(0.2), levels=4),
    "discretized gaussian": lambda loc: DiscretizedGaussian(loc, torch.tensor(0.2), levels=4),
    "continuous bernoulli": lambda loc: Independent(ContinuousBernoulli(loc), 3),
    "normal with sigma of z": lambda loc: Independent(Normal(loc, loc.exp()), 3),
}


@pytest.mark.parametrize("name", PIXELS)
def test_log_probabilities_of_single_pixels_add_up(name: str) -> None:
    """Those of the pixels one by one have the sum of the whole, and a mask selects from them."""
    torch.manual_seed(1)
    px: Distribution = PIXELS[name](torch.randn(3, 5, *SHAPE))
    x = torch.randint(4, (5, *SHAPE)) / 3 if name != "bernoulli" else torch.randint(2, (5, *SHAPE)).float()
    whole, count = px.log_prob(x), math.prod(SHAPE)
    single = torch.eye(count, dtype=torch.bool).reshape(count, *SHAPE)
    alone = torch.stack([ObservedPixels(px, mask).log_prob(x) for mask in single])
    torch.testing.assert_close(alone.sum(0), whole, rtol=1e-4, atol=1e-3)
    observed = torch.rand(5, *SHAPE) < 0.5
    some = ObservedPixels(px, observed)
    expected = torch.einsum("nsb,bn->sb", alone, observed.flatten(1).float())
    torch.testing.assert_close(some.log_prob(x), expected, rtol=1e-4, atol=1e-3)
    assert torch.equal(ObservedPixels(px, None).log_prob(x), whole)
    assert torch.equal(some.mean, px.mean) and some.sample().shape == (3, 5, *SHAPE)
    assert torch.equal(some.support.check(x), px.support.check(x))
    one: Distribution = PIXELS[name](torch.randn(5, *SHAPE))
    more = ObservedPixels(one, observed).expand((3, 5))
    torch.testing.assert_close(more.log_prob(x), ObservedPixels(one, observed).log_prob(x).expand(3, 5))


def pictures(count: int) -> tuple[Tensor, Tensor]:
    """Binary pictures (count, *SHAPE), and which of their pixels were observed."""
    return torch.randint(2, (count, *SHAPE)).float(), torch.rand(count, *SHAPE) < 0.6


@pytest.mark.parametrize("mask", [True, False])
def test_pixels_that_were_not_observed_change_nothing(mask: bool) -> None:
    torch.manual_seed(2)
    x, observed = pictures(20)
    model = masked_model(Bernoulli, [16], 2, mask).eval()
    context = {"observed": observed}
    model.initialize(torch.where(observed, x, 0), context)
    traces = []
    for images in (x, torch.where(observed, x, 1 - x)):
        torch.manual_seed(0)
        traces.append(model.trace(images, 3, context))
    assert torch.equal(traces[0].latents[0].q.mean, traces[1].latents[0].q.mean)
    assert torch.equal(traces[0].log_px, traces[1].log_px)
    traces[0].log_px.sum().backward()
    decoded = model.decode(traces[0].latents[0].z, context=context)
    torch.testing.assert_close(decoded.log_prob(x), traces[0].log_px)
    same = model.encode(x, {"observed": torch.ones_like(observed)}).mean
    assert torch.equal(model.encode(x).mean, same)
    assert (model.encode(torch.where(observed, x, 0)).mean != model.encode(x, context).mean).any() == mask
    assert model.generate(4).sample().shape == (4, *SHAPE)


def test_starting_values_are_those_of_observed_pixels() -> None:
    x = 5 + torch.randn(4000, *SHAPE)
    observed = torch.rand(4000, *SHAPE) < 0.5
    model = masked_model(LearnedGaussian, [16], 2)
    model.initialize(torch.where(observed, x, 0), {"observed": observed})
    bias = model.likelihood.project.layers[0].bias.detach()
    torch.testing.assert_close(bias, torch.full((12,), 5.0), rtol=0, atol=0.15)


def test_what_does_not_go_with_masks_is_refused() -> None:
    with pytest.raises(ConfigError, match="likelihood=gaussian_optimal: fits sigma to whole images"):
        masked_model(OptimalGaussian, [16], 2)
    mixture = masked_model(partial(DiscretizedLogisticMixture, components=2, levels=256), [16], 2)
    x, observed = pictures(3)
    with pytest.raises(ConfigError, match="likelihood=DiscretizedLogisticMixture: is no product over pixels"):
        mixture.trace(x, 1, {"observed": observed})
    assert not has_pixels(Independent(MultivariateNormal(torch.zeros(3, 4), torch.eye(4)), 1))
    with pytest.raises(ConfigError, match="mask=1: must be true or false"):
        MaskedInputs(SHAPE, mask=1)  # type: ignore[arg-type]
    assert for_measures(masked_model(Bernoulli, [16], 2)).context_names == ("observed",)
