"""A hierarchy of linear parts against the exact answers of the same linear Gaussian model."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nelbo.evaluation.importance import importance
from nelbo.heads import DiagonalNormalPosterior, FixedGaussian
from nelbo.heads.bounds import positive_scale
from nelbo.models import Hierarchy
from nelbo.models.level import Level
from nelbo.nets import Net
from nelbo.nets.pyramid import Pyramid
from nelbo.objectives import IWAE, FreeBits, NegativeELBO
from nelbo.priors import StandardNormal
from nelbo.theory.gaussians import independent, standard_normal
from nelbo.theory.hierarchy import LinearHierarchy, LinearPosterior
from nelbo.trace import Trace

SHAPE, PIXELS, WIDTH, TOP, LOWER = (1, 2, 2), 4, 5, 2, 3
SAMPLES, SIGMA = 20_000, 1.0


def constant_scale(linear: nn.Linear, first: int, raw: float) -> nn.Linear:
    """Make the outputs of a layer from `first` to `first + LOWER` the constant `raw`: scales that depend on nothing."""
    with torch.no_grad():
        linear.weight[first : first + LOWER] = 0
        linear.bias[first : first + LOWER] = raw
    return linear


def make() -> Hierarchy:
    """Return a two-level model whose every part is linear, in float64."""
    torch.manual_seed(0)
    model = Hierarchy(
        shape=SHAPE,
        latent_dim=TOP,
        encoder=Pyramid(SHAPE, [nn.Flatten()], nn.Identity(), (PIXELS,), [0], center=False),
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        merge=nn.Linear(TOP, WIDTH),
        start=(WIDTH,),
        levels=lambda residual: [
            Level(
                (LOWER,),
                (WIDTH,),
                enter=nn.Identity(),
                prior=constant_scale(nn.Linear(WIDTH, 2 * LOWER + WIDTH), LOWER, -0.5),
                posterior=constant_scale(nn.Linear(WIDTH + PIXELS, 2 * LOWER), LOWER, 0.1),
                merge=nn.Linear(LOWER, WIDTH),
                block=nn.Identity(),
                residual=residual,
            )
        ],
        decoder=Net((WIDTH,), (WIDTH,), nn.Identity()),
        likelihood=partial(FixedGaussian, sigma=SIGMA),
    )
    head = model.posterior.project.layers[-1]
    with torch.no_grad():
        head.weight[TOP:] = 0
        head.bias[TOP:] = torch.tensor([-0.1, 0.1])
        model.likelihood.project.layers[0].weight.normal_(std=0.4)
    return model.double().eval()


def affine(function: object, inputs: int) -> tuple[Tensor, Tensor]:
    """Return the matrix and the offset of an affine function of vectors."""
    offset = function(torch.zeros(1, inputs).double())[0]  # type: ignore[operator]
    return (function(torch.eye(inputs).double()) - offset).T.detach(), offset.detach()  # type: ignore[operator]


def exact(model: Hierarchy) -> tuple[LinearHierarchy, LinearPosterior]:
    """Return the same model and posterior as matrices."""
    (level,) = model._below

    def noise(value: float) -> object:
        return lambda z: model.unfold(z, torch.full((len(z), LOWER), value).double())[1]

    def lower_q(joined: Tensor) -> Tensor:
        stream = model.merge(joined[:, PIXELS:]) + model.start
        return level.posterior_of(stream, joined[:, :PIXELS], level.prior_of(stream)[0]).loc

    prior, prior_offset = affine(noise(0.0), TOP)
    spread = affine(noise(1.0), TOP)[1] - prior_offset
    decoder, mean = affine(lambda z: model.decode(z[:, :TOP], z[:, TOP:]).mean.flatten(1), TOP + LOWER)
    top, top_offset = affine(lambda x: model.encode(x.reshape(-1, *SHAPE)).mean, PIXELS)
    lower, lower_offset = affine(lower_q, PIXELS + TOP)
    q = model.encode(torch.zeros(1, *SHAPE).double())
    lower_scale = positive_scale(level.posterior.bias[LOWER:].detach())
    sigma = torch.full((PIXELS,), SIGMA).double()
    hierarchy = LinearHierarchy(
        (standard_normal(TOP), independent(prior, prior_offset, spread)), independent(decoder, mean, sigma)
    )
    return hierarchy, LinearPosterior(
        (independent(top, top_offset, q.stddev[0].detach()), independent(lower, lower_offset, lower_scale))
    )


@pytest.fixture(scope="module")
def model() -> Hierarchy:
    return make()


@pytest.fixture(scope="module")
def x(model: Hierarchy) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(4, *SHAPE).double()


@pytest.fixture(scope="module")
@torch.no_grad()
def trace(model: Hierarchy, x: Tensor) -> Trace:
    torch.manual_seed(2)
    return model.trace(x, SAMPLES)


def agrees(samples: Tensor, expected: Tensor) -> bool:
    """Return whether means of samples (S, B) are within 3 standard errors of the expected values (B,)."""
    error = samples.std(dim=0) / math.sqrt(len(samples))
    return bool(((samples.mean(dim=0) - expected).abs() <= 3 * error + 1e-9).all())


def test_kls_by_level_and_the_bound_are_exact(model: Hierarchy, x: Tensor, trace: Trace) -> None:
    hierarchy, posterior = exact(model)
    terms = hierarchy.terms(x.flatten(1), posterior)
    for level, latent in enumerate(trace.latents):
        assert agrees(latent.kl, terms.kl[:, level]), level
        torch.testing.assert_close(latent.unit_kl.sum(-1), latent.kl.mean(dim=0))
    assert agrees(-trace.log_px, terms.reconstruction)
    assert agrees(trace.log_px - trace.kl, terms.elbo) and agrees(trace.log_weight, terms.elbo)
    assert (terms.kl[:, 1] > 0.1).all()  # the second level has something to say


def test_the_likelihood_is_exact(model: Hierarchy, x: Tensor) -> None:
    log_px = exact(model)[0].log_prob(x.flatten(1))
    torch.manual_seed(3)
    estimate = importance(model, x, SAMPLES, keep_log_weights=True)
    assert estimate.log_weights is not None
    relative = (estimate.log_weights.double() - log_px).exp()  # w / p(x), whose mean is 1
    assert agrees(relative, torch.ones(len(x)).double())
    assert ((estimate.log_likelihood - log_px).abs() < 0.1).all()


def test_the_importance_weighted_bound_lies_between_the_elbo_and_the_likelihood(
    model: Hierarchy, x: Tensor, trace: Trace
) -> None:
    hierarchy, posterior = exact(model)
    elbo, log_px = hierarchy.terms(x.flatten(1), posterior).elbo.mean(), hierarchy.log_prob(x.flatten(1)).mean()
    bounds = []
    for number in (1, 5, 50):
        weights = trace.log_weight[: SAMPLES // number * number].unflatten(0, (number, -1))
        bounds.append((weights.logsumexp(dim=0) - math.log(number)).mean())
    assert abs(bounds[0] - elbo) < 0.02 and elbo < bounds[1] < bounds[2] < log_px
    objective = IWAE(num_samples=SAMPLES)
    objective.check(trace)
    assert -objective(trace, 0).total == pytest.approx(log_px.item(), abs=0.05)


def test_free_bits_of_a_level_count_its_exact_kl(model: Hierarchy, x: Tensor, trace: Trace) -> None:
    terms = exact(model)
    kl = terms[0].terms(x.flatten(1), terms[1]).kl.mean(dim=0)
    free = float(kl.mean())  # above the KL of one level and below that of the other
    assert kl.min() < free < kl.max()
    objective = FreeBits(beta=1.0, free_bits=free, per="level", num_samples=SAMPLES)
    objective.check(trace)
    plain = NegativeELBO(beta=1.0, num_samples=SAMPLES)(trace, 0).total
    assert (objective(trace, 0).total - plain).item() == pytest.approx(free - kl.min().item(), abs=0.02)
