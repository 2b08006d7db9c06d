"""Latent variables of every batch and event shape, against closed forms.

q(z|x) has batch shape () if it does not depend on x, (B,), or (S, B) if it depends on samples of another level.
Shapes: S samples, B images, D units. Events are (D,), (C, H, W), or (N, K) for N one-hot codes of K classes.
"""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from nelbo.distributions import DiagonalNormal, OneHots, StandardNormal
from nelbo.metrics import ActiveUnits, CodePerplexity, ExampleMean, KLPerUnit, MutualInformation
from nelbo.metrics.examples import kl as kl_of
from nelbo.objectives import DIP, BetaTC, Capacity, FactorVAE, FreeBits, NegativeELBO, Objective
from nelbo.trace import Latent, Trace
from tests.helpers.factors import OBJECTIVES, prepared

S, B = 4, 5
BATCHES = [(), (B,), (S, B)]
EVENTS = [(6,), (1,), (2, 3, 2), (1, 1, 1), (3, 2)]


def normal(loc: Tensor, scale: Tensor, event: tuple[int, ...]) -> Distribution:
    """Return a Gaussian with independent units: a `DiagonalNormal` if the event is a vector."""
    if len(event) == 1:
        return DiagonalNormal(loc, scale)
    return Independent(Normal(loc, scale, validate_args=False), len(event), validate_args=False)


def latent_of(batch: tuple[int, ...], event: tuple[int, ...], prior: tuple[int, ...] = ()) -> Latent:
    """Return a latent with Gaussian q and p, and reparameterised samples."""
    loc = torch.randn(*batch, *event).double().requires_grad_()
    q = normal(loc, 0.3 + torch.rand(*batch, *event).double(), event)
    p = normal(torch.randn(*prior, *event).double(), 0.5 + torch.rand(*prior, *event).double(), event)
    noise = torch.randn(S, B, *event).double()
    return Latent(q, p, parameters(q)[0] + parameters(q)[1] * noise)


def parameters(distribution: Distribution) -> tuple[Tensor, Tensor]:
    assert isinstance(distribution, Independent)
    return distribution.base_dist.loc, distribution.base_dist.scale


def trace_of(*latents: Latent) -> Trace:
    px = Independent(Normal(torch.zeros(S, B, 1, 1, 1).double(), 1.0), 3)
    return Trace(torch.zeros(B, 1, 1, 1).double(), px, latents)


def by_unit(kls: Tensor) -> Tensor:
    """Return KLs of elements, (S, B, *event), summed over the places of a map, (S, B, U)."""
    return kls.flatten(3).sum(-1) if kls.ndim > 3 else kls


def kls_of(latent: Latent) -> Tensor:
    """Return the KL of each element, (S, B, *event)."""
    (loc, scale), (p_loc, p_scale) = parameters(latent.q), parameters(latent.p)
    kls = ((scale / p_scale) ** 2 + ((loc - p_loc) / p_scale) ** 2 - 1) / 2 - (scale / p_scale).log()
    return kls.expand(S, B, *latent.q.event_shape)


PRIORS = [(), (B,), (S, B)]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize(("batch", "event"), list(product(BATCHES, EVENTS)))
def test_densities_and_kls_are_closed_forms(
    batch: tuple[int, ...], event: tuple[int, ...], prior: tuple[int, ...]
) -> None:
    latent = latent_of(batch, event, prior)
    assert latent.is_continuous
    kls, (loc, scale) = kls_of(latent), parameters(latent.q)
    torch.testing.assert_close(latent.kl, kls.flatten(2).sum(-1))
    torch.testing.assert_close(latent.element_kl, kls.mean(0))
    torch.testing.assert_close(latent.unit_kl, by_unit(kls).mean(0))
    torch.testing.assert_close(latent.unit_kl.sum(-1), latent.kl.mean(0))
    standard = (latent.z - loc) / scale
    log_q = -0.5 * standard**2 - scale.log() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(latent.log_q, log_q.flatten(2).sum(-1))
    torch.testing.assert_close(latent.score(), -standard / scale)
    torch.testing.assert_close(trace_of(latent, latent).kl, 2 * latent.kl)


@pytest.mark.parametrize(("batch", "event"), list(product(BATCHES, EVENTS)))
def test_path_derivative_and_direct_derivative_of_log_q(batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    """The derivative by z is the score, and the direct one by loc its negative; z = loc + noise, so they cancel."""
    latent = latent_of(batch, event)
    (loc, _), score = parameters(latent.q), latent.score()
    path_log_q = latent.path_log_q()
    torch.testing.assert_close(path_log_q, latent.log_q)
    missing = tuple(range(2 - len(batch)))  # the batch dimensions that q does not have
    (path,) = torch.autograd.grad(path_log_q.sum(), loc, retain_graph=True)
    torch.testing.assert_close(path, score.sum(missing) if missing else score)
    (direct,) = torch.autograd.grad(latent.own_log_q().sum(), loc, retain_graph=True)
    torch.testing.assert_close(direct, -path)
    factor = torch.rand(S, B).double()
    latent.scale_gradient(factor)
    weights = torch.randn(latent.z.shape).double()
    (scaled,) = torch.autograd.grad((weights * latent.z).sum(), loc)
    expected = weights * factor.reshape(S, B, *[1] * len(event))
    torch.testing.assert_close(scaled, expected.sum(missing) if missing else expected)


@pytest.mark.parametrize(("batch", "event"), list(product(BATCHES, EVENTS)))
def test_metrics_and_objectives_average_the_kl_over_samples_and_images(
    batch: tuple[int, ...], event: tuple[int, ...]
) -> None:
    latent, other = latent_of(batch, event), latent_of((B,), (2,))
    trace = trace_of(latent, other)
    means = torch.cat([kls_of(each).flatten(2).mean((0, 1)) for each in (latent, other)])
    units = torch.cat([by_unit(kls_of(each)).mean((0, 1)) for each in (latent, other)])
    kl, total = KLPerUnit(trace), ExampleMean(kl_of)
    for metric in (kl, total):
        metric.update(trace)
    torch.testing.assert_close(kl.values(), units.float())
    torch.testing.assert_close(total.compute(), means.sum().float())
    free = means.median().item()
    loss = FreeBits(beta=2.0, free_bits=free, per="unit", num_samples=S)(trace, 0)
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + 2 * means.clamp(min=free).sum())
    loss = Capacity(gamma=3.0, capacity=100.0, num_samples=S)(trace, 0)
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + 3 * (100 - means.sum()))
    loss = NegativeELBO(beta=1.0, num_samples=S)(trace, 0)
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + means.sum())


@pytest.mark.parametrize(("batch", "event"), list(product(BATCHES, EVENTS)))
def test_activity_of_units_is_the_variance_of_their_means(batch: tuple[int, ...], event: tuple[int, ...]) -> None:
    """If q depends on samples, the estimate uses two halves of them, so that their noise does not count as activity."""
    count = 2000
    spread = torch.linspace(0, 1, math.prod(event)).reshape(event)  # standard deviations of means over images
    spread[0] = 0
    means = spread * torch.randn(count, *event)
    loc = means.mean(0) if batch == () else means
    if batch == (S, B):
        loc = means + torch.randn(S, count, *event)
    q = normal(loc, torch.ones_like(loc), event)
    latent = Latent(q, normal(torch.zeros(event), torch.ones(event), event), torch.zeros(S, count, *event))
    trace = Trace(torch.zeros(count, 1, 1, 1), q, (latent,))
    metric = ActiveUnits(trace)
    metric.update(trace)
    elements = spread**2 if batch else torch.zeros(event)
    expected = elements.flatten(1).mean(-1) if len(event) > 1 else elements  # a channel's is the mean over its places
    assert (metric.variances() - expected).abs().max() < (5e-5 if batch == () else 0.2)
    if batch == (S, B):  # the standard error is half the variance of the noise, divided by sqrt(count)
        assert metric.variances()[0].abs() < 4 * 0.5 / math.sqrt(count)
        single = Latent(q, latent.p, latent.z[:1])
        assert not ActiveUnits.applies(Trace(trace.x, q, (single,)))


@pytest.mark.parametrize("batch", BATCHES)
def test_densities_kls_and_metrics_of_one_hot_codes(batch: tuple[int, ...]) -> None:
    logits, prior = torch.randn(*batch, 3, 4).double(), torch.randn(3, 4).double()
    q, p = OneHots(logits), OneHots(prior)
    z = q.expand((S, B)).sample()
    latent = Latent(q, p, z)
    assert not latent.is_continuous and not ActiveUnits.applies(trace_of(latent))
    log_ratio = logits.log_softmax(-1) - prior.log_softmax(-1)
    kls = (logits.softmax(-1) * log_ratio).sum(-1).expand(S, B, 3)
    torch.testing.assert_close(latent.unit_kl, kls.mean(0))
    torch.testing.assert_close(latent.kl, kls.sum(-1))
    torch.testing.assert_close(latent.log_q, (z * logits.log_softmax(-1)).sum((-2, -1)))
    trace = trace_of(latent)
    perplexity, kl = CodePerplexity(trace), KLPerUnit(trace)
    for metric in (perplexity, kl):
        metric.update(trace)
    torch.testing.assert_close(kl.values(), kls.mean((0, 1)).float())
    shares = logits.softmax(-1).expand(S, B, 3, 4).mean((0, 1))
    torch.testing.assert_close(perplexity.compute(), (-shares * shares.log()).sum(-1).exp().mean().float())


COMPARED = {name: make for name, make in OBJECTIVES.items() if name not in ("vq_vae", "factor", "reconstruction")}


def total_of(objective: Objective, latent: Latent) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient with respect to the location of q."""
    torch.manual_seed(3)
    total = objective(trace_of(latent), 0).total
    loc, _ = parameters(latent.q)
    (gradient,) = torch.autograd.grad(total, loc, retain_graph=True)
    return total, gradient


@pytest.mark.parametrize("event", [(2, 3, 2), (1, 1, 1)])
@pytest.mark.parametrize("name", [*COMPARED, "factor", "dip_i", "beta_tc_stratified"])
def test_objectives_are_equal_for_an_image_event_and_its_flattened_vector(name: str, event: tuple[int, ...]) -> None:
    units = math.prod(event)
    objectives = {
        **COMPARED,
        "factor": lambda: factor(units),
        "dip_i": lambda: DIP(beta=1.0, variant="i", lambda_off_diagonal=10.0, lambda_diagonal=5.0, num_samples=S),
        "beta_tc_stratified": lambda: prepared(
            BetaTC(alpha=2.0, beta=6.0, gamma=2.0, estimator="stratified", num_samples=S)
        ),
    }
    objective = objectives[name]().double()
    noise, loc = torch.randn(S, B, *event).double(), torch.randn(B, *event).double()
    scale = 0.3 + torch.rand(B, *event).double()
    results = []
    for shape in (event, (units,)):
        mean = loc.reshape(B, *shape).clone().requires_grad_()
        q = normal(mean, scale.reshape(B, *shape), shape)
        p = StandardNormal(torch.zeros(units).double()) if len(shape) == 1 else normal(*standard(shape), shape)
        latent = Latent(q, p, mean + scale.reshape(B, *shape) * noise.reshape(S, B, *shape))
        total, gradient = total_of(objective, latent)
        results.append((total, gradient.flatten(1)))
    torch.testing.assert_close(*results)


def standard(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return torch.zeros(shape).double(), torch.ones(shape).double()


def factor(units: int) -> FactorVAE:
    torch.manual_seed(0)
    betas = [0.5, 0.9]
    return FactorVAE(
        gamma=10.0,
        latent_dim=units,
        hidden=[8],
        discriminator_lr=1e-3,
        discriminator_betas=betas,
        num_samples=S,
    )


@pytest.mark.parametrize("name", COMPARED)
def test_objectives_are_equal_with_and_without_a_sample_dimension_of_q(name: str) -> None:
    objective = COMPARED[name]().double()
    loc, scale = torch.randn(B, 3).double(), 0.3 + torch.rand(B, 3).double()
    noise = torch.randn(S, B, 3).double()
    results = []
    for batch in ((B,), (S, B)):
        mean = loc.clone().requires_grad_()
        q = DiagonalNormal(mean.expand(*batch, 3), scale.expand(*batch, 3))
        trace = trace_of(Latent(q, StandardNormal(torch.zeros(3).double()), mean + scale * noise))
        torch.manual_seed(3)
        total = objective(trace, 0).total
        results.append((total, torch.autograd.grad(total, mean)[0]))
    torch.testing.assert_close(*results)


def test_mutual_information_is_zero_if_q_does_not_depend_on_the_image() -> None:
    latent = latent_of((), (3,))
    metric = MutualInformation()
    metric.update(trace_of(latent))
    torch.testing.assert_close(metric.compute().double(), torch.tensor(0.0).double(), atol=1e-6, rtol=0)
    assert not MutualInformation.applies(trace_of(latent_of((S, B), (3,))))
