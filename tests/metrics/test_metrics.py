"""Metrics count every example once, for any batches."""

import math

import pytest
import torch
from zuko.transforms import ComposedTransform, IdentityTransform

from nelbo.distributions import DiagonalNormal, Flow
from nelbo.metrics import ActiveUnits, BitsPerDim, KLPerUnit, standard_metrics
from nelbo.models import VAE
from nelbo.trace import Latent, Trace
from tests.helpers.factors import SHAPE, images, make_vae


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_metrics_do_not_depend_on_the_batches(likelihood: str) -> None:
    model, x = make_vae(likelihood=likelihood), images(likelihood, 50)
    with torch.no_grad():
        whole = model.trace(x, 2)
        latent = whole.latents[0]
        collected = []
        for sizes in ([50], [20, 20, 10], [1] * 50):
            metrics = standard_metrics(whole, "test/", dequantized_levels=None)
            for part in torch.arange(50).split(sizes):
                q = DiagonalNormal(latent.q.loc[part], latent.q.scale[part])  # type: ignore[attr-defined]
                px = model.decode(latent.z[:, part])
                metrics.update(Trace(x[part], px, (Latent(q, latent.p, latent.z[:, part]),)))
            collected.append(metrics.compute())
    for other in collected[1:]:
        torch.testing.assert_close(other, collected[0])
    nelbo = -(whole.log_px - whole.kl).mean()
    torch.testing.assert_close(collected[0]["test/nelbo"], nelbo)
    torch.testing.assert_close(
        collected[0]["test/reconstruction"] + collected[0]["test/kl"], collected[0]["test/nelbo"]
    )
    if likelihood == "bernoulli":
        torch.testing.assert_close(collected[0]["test/bits_per_dim"], nelbo / (math.prod(SHAPE) * math.log(2)))
    else:
        assert "test/bits_per_dim" not in collected[0]


def test_a_fair_coin_costs_one_bit_per_pixel() -> None:
    model = make_vae(likelihood="bernoulli")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # q = p, and every pixel is 0 or 1 with probability one half
        trace = model.trace(images("bernoulli", 10))
        bits = BitsPerDim(None)
        bits.update(trace)
    torch.testing.assert_close(bits.compute(), torch.tensor(1.0))


def constant_vae(likelihood: str) -> VAE:
    """Return a VAE with q = p and a p(x|z) that does not depend on z, whose negative ELBO is -log p(x)."""
    model = make_vae(likelihood=likelihood)
    with torch.no_grad():
        for part in (model.posterior, model.decoder, model.likelihood):
            for parameter in part.parameters():
                parameter.zero_()
    return model


def test_a_uniform_density_of_dequantised_pixels_costs_all_their_bits() -> None:
    """A density of 1 on [0, 1] costs log2 L bits per pixel, like a uniform distribution over L levels."""
    x, bits = torch.rand(10, *SHAPE), {}
    with torch.no_grad():
        for likelihood, levels in (("continuous_bernoulli", 256), ("categorical", None)):
            trace = constant_vae(likelihood).trace(images(likelihood) if levels is None else x)
            metrics = standard_metrics(trace, "test/", dequantized_levels=levels)
            metrics.update(trace)
            bits[likelihood] = metrics.compute()["test/bits_per_dim"].item()
    assert bits["continuous_bernoulli"] == pytest.approx(8, abs=1e-5)
    assert bits["categorical"] == pytest.approx(math.log2(17), abs=1e-5)


def test_a_density_of_raw_pixels_has_no_bits_per_dim() -> None:
    trace = make_vae(likelihood="gaussian").trace(images())
    assert "test/bits_per_dim" not in standard_metrics(trace, "test/", dequantized_levels=None).keys()


def test_deterministic_codes_have_no_nelbo_and_no_kl() -> None:
    trace = make_vae(posterior="deterministic").trace(images())
    assert set(standard_metrics(trace, "test/", dequantized_levels=256).keys()) == {
        "test/reconstruction",
        "test/active_units",
    }
    assert not KLPerUnit.applies(trace)


def test_active_units_have_a_variance_above_the_threshold() -> None:
    """Posterior means with variances just above and below 0.01 (Burda et al. 2016)."""
    count = 1000
    signs = torch.tensor([1.0, -1.0]).repeat(count // 2).unsqueeze(1)
    means = signs * torch.tensor([1.0, 0.11, 0.09, 0.0]) + torch.tensor([0.0, 3.0, -3.0, 5.0])
    q = DiagonalNormal(means, torch.ones(count, 4))
    trace = Trace(torch.zeros(count, *SHAPE), q, (Latent(q, q, means.unsqueeze(0)),))
    metric = ActiveUnits(trace)
    metric.update(trace)
    torch.testing.assert_close(metric.variances(), torch.tensor([1.0, 0.0121, 0.0081, 0.0]), atol=1e-5, rtol=1e-4)
    assert metric.compute() == 2


@pytest.mark.parametrize("mean", [0.0, 300.0, -5000.0])
def test_active_units_are_accurate_if_means_are_large(mean: float) -> None:
    """Inactive and active units around a mean whose square exceeds float32 precision for their variance."""
    deviations = torch.tensor([0.0, 0.08, 0.125, 0.5])
    means = mean + deviations * torch.randn(3000, 4)
    expected = means.double().var(dim=0, correction=0)
    for size in (1, 64, 3000):
        parts = [DiagonalNormal(part, torch.ones_like(part)) for part in means.split(size)]
        traces = [Trace(torch.zeros(len(q.loc), *SHAPE), q, (Latent(q, q, q.loc.unsqueeze(0)),)) for q in parts]
        metric = ActiveUnits(traces[0])
        for trace in traces:
            metric.update(trace)
        torch.testing.assert_close(metric.variances().double(), expected, rtol=0.01, atol=1e-6)
        assert metric.compute() == 2


def test_active_units_resume_from_current_and_earlier_checkpoints() -> None:
    """Within an epoch; earlier versions stored sums of means and of their products."""
    q = DiagonalNormal(torch.randn(500, 3) * torch.tensor([1.0, 0.12, 0.08]), torch.ones(500, 3))
    trace = Trace(torch.zeros(500, *SHAPE), q, (Latent(q, q, q.loc.unsqueeze(0)),))
    whole, half = ActiveUnits(trace), ActiveUnits(trace)
    for metric, count in ((whole, 500), (half, 200)):
        part = DiagonalNormal(q.loc[:count], q.scale[:count])
        metric.update(Trace(trace.x[:count], part, (Latent(part, part, q.loc[None, :count]),)))
    first = q.loc[:200]
    sums = {
        "first": first.sum(0),
        "second": first.sum(0),
        "product": first.square().sum(0),
        "count": torch.tensor(200.0),
    }
    rest = DiagonalNormal(q.loc[200:], q.scale[200:])
    for state in (dict(half.metric_state), sums):
        metric = ActiveUnits(trace)
        metric.restore(state)
        metric.update(Trace(trace.x[200:], rest, (Latent(rest, rest, q.loc[None, 200:]),)))
        torch.testing.assert_close(metric.variances(), whole.variances(), rtol=1e-4, atol=1e-7)


def test_active_units_of_a_flow_ignore_the_noise_of_mean_estimates() -> None:
    """An identity flow of a Gaussian: the mean of one unit varies, those of three others are constant."""
    means = torch.randn(4000, 4) * torch.tensor([0.5, 0.0, 0.0, 0.0])
    base = DiagonalNormal(means, torch.ones(4000, 4))
    q = Flow(base, ComposedTransform(IdentityTransform()))
    trace = Trace(torch.zeros(4000, *SHAPE), q, (Latent(q, q, means.unsqueeze(0)),))
    metric = ActiveUnits(trace)
    metric.update(trace)
    # Each estimate averages 16 samples, so 4,000 products have a standard error of 1 / 16 / sqrt(4000) = 0.001.
    assert abs(metric.variances()[0] - 0.25) < 0.03 and metric.variances()[1:].abs().max() < 5e-3
    assert metric.compute() == 1


@pytest.mark.parametrize("posterior", ["diagonal_normal", "laplace"])
@pytest.mark.parametrize("prior", ["standard_normal", "diagonal_normal"])
def test_kl_per_unit_sums_to_the_kl(posterior: str, prior: str) -> None:
    trace = make_vae(posterior=posterior, prior=prior).trace(images(count=20))
    assert KLPerUnit.applies(trace)
    metric = KLPerUnit(trace)
    metric.update(trace)
    torch.testing.assert_close(metric.compute().sum(), trace.kl.mean())


def test_kl_per_unit_needs_independent_units() -> None:
    for posterior, prior in (("full_normal", "standard_normal"), ("diagonal_normal", "mixture")):
        assert not KLPerUnit.applies(make_vae(posterior=posterior, prior=prior).trace(images()))
