"""Metrics: every example once, whatever the batches."""

import math

import pytest
import torch

from nelbo.distributions import DiagonalNormal
from nelbo.metrics import ActiveUnits, BitsPerDim, KLPerUnit, standard_metrics
from nelbo.trace import Latent, Trace
from tests.factors import SHAPE, images, make_vae


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_metrics_do_not_depend_on_the_batches(likelihood: str) -> None:
    model, x = make_vae(likelihood=likelihood), images(likelihood, 50)
    with torch.no_grad():
        whole = model.trace(x, 2)
        latent = whole.latents[0]
        collected = []
        for sizes in ([50], [20, 20, 10], [1] * 50):
            metrics = standard_metrics(whole, "test/")
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


def test_a_fair_coin_costs_one_bit_a_pixel() -> None:
    model = make_vae(likelihood="bernoulli")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # q = p, and every pixel is 0 or 1 with probability one half
        trace = model.trace(images("bernoulli", 10))
        bits = BitsPerDim()
        bits.update(trace)
    torch.testing.assert_close(bits.compute(), torch.tensor(1.0))


def test_deterministic_codes_leave_nelbo_and_kl_out() -> None:
    trace = make_vae(posterior="deterministic").trace(images())
    assert set(standard_metrics(trace, "test/").keys()) == {"test/reconstruction", "test/active_units"}
    assert not KLPerUnit.applies(trace)


def test_active_units_follow_burda() -> None:
    """Means with variance just above and below 0.01."""
    count = 1000
    signs = torch.tensor([1.0, -1.0]).repeat(count // 2).unsqueeze(1)
    means = signs * torch.tensor([1.0, 0.11, 0.09, 0.0]) + torch.tensor([0.0, 3.0, -3.0, 5.0])
    q = DiagonalNormal(means, torch.ones(count, 4))
    trace = Trace(torch.zeros(count, *SHAPE), q, (Latent(q, q, means.unsqueeze(0)),))
    metric = ActiveUnits(trace)
    metric.update(trace)
    torch.testing.assert_close(metric.variances(), torch.tensor([1.0, 0.0121, 0.0081, 0.0]), atol=1e-5, rtol=1e-4)
    assert metric.compute() == 2


def test_kl_per_unit_sums_to_the_kl() -> None:
    trace = make_vae().trace(images(count=20))
    metric = KLPerUnit(trace)
    metric.update(trace)
    torch.testing.assert_close(metric.compute().sum(), trace.kl.mean())
