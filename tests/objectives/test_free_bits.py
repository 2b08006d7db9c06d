"""Free bits and capacity against the plain ELBO and explicit sums."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from nelbo.config.build import build
from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError
from nelbo.models import VAE
from nelbo.objectives import Capacity, FreeBits, NegativeELBO, Objective
from nelbo.schedules import Linear
from nelbo.trace import Latent, Trace
from tests.helpers.factors import images, make_vae


def gradients(model: VAE, x: Tensor, objective: Objective, step: float = 0) -> Tensor:
    """Return the gradients of all parameters in one vector, with the same noise at each call."""
    torch.manual_seed(0)
    total = objective(model.trace(x, objective.num_samples), step).total
    result = torch.autograd.grad(total, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in result])


def normal(loc: float, units: int) -> DiagonalNormal:
    """Return N(loc, 1) for 5 images, whose KL to N(0, 1) is loc^2 / 2."""
    return DiagonalNormal(torch.full((5, units), loc), torch.ones(5, units))


def two_levels() -> Trace:
    """Return a trace of two levels with 2 and 3 units, and KLs of 0.5 and 0.125 per unit, 1 and 0.375 per level."""
    latents = tuple(
        Latent(normal(loc, units), DiagonalNormal(torch.zeros(units), torch.ones(units)), torch.randn(4, 5, units))
        for loc, units in ((1.0, 2), (0.5, 3))
    )
    px = Independent(Normal(torch.zeros(4, 5, 1, 2, 2), 1.0), 3)
    return Trace(torch.zeros(5, 1, 2, 2), px, latents)


def spread_vae(posterior: str = "diagonal_normal", prior: str = "standard_normal") -> VAE:
    """Return a VAE whose KLs differ between units."""
    torch.manual_seed(1)
    model = make_vae(posterior=posterior, prior=prior)
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.mul_(2)
    return model


@pytest.mark.parametrize("per", ["unit", "channel", "level"])
@pytest.mark.parametrize("posterior", ["diagonal_normal", "laplace"])
def test_zero_free_bits_give_the_plain_elbo(posterior: str, per: str) -> None:
    model, x = spread_vae(posterior, "diagonal_normal"), images()
    free = FreeBits(beta=0.7, free_bits=0, per=per, num_samples=2)
    elbo = NegativeELBO(beta=0.7, num_samples=2)
    trace = model.trace(x, 2)
    torch.testing.assert_close(free(trace, 0).total, elbo(trace, 0).total)
    torch.testing.assert_close(gradients(model, x, free), gradients(model, x, elbo), rtol=1e-4, atol=1e-5)


def test_zero_free_bits_keep_a_negative_kl_estimate() -> None:
    """If q is nearly p, a Monte Carlo KL is negative half of the time, and raising it to 0 would be a bias."""
    q = DiagonalNormal(torch.zeros(5, 2), torch.ones(5, 2))
    latent = Latent(
        q,
        make_vae(prior="mixture", latent_dim=2).prior(lambda x: q),
        q.sample(torch.Size((4,))),
        torch.full((4, 5), -9.0),
    )
    trace = Trace(torch.zeros(5, 1, 2, 2), Independent(Normal(torch.zeros(4, 5, 1, 2, 2), 1.0), 3), (latent,))
    assert trace.kl.mean() < 0
    loss = FreeBits(beta=1.0, free_bits=0, per="level", num_samples=4)(trace, 0)
    torch.testing.assert_close(loss.total, loss.terms["nelbo"])


@pytest.mark.parametrize("per", ["unit", "channel", "level"])
def test_below_the_threshold_a_kl_is_constant_and_has_no_gradient(per: str) -> None:
    model, x = spread_vae(), images()
    free = FreeBits(beta=0.5, free_bits=1000, per=per, num_samples=2)
    loss = free(model.trace(x, 2), 0)
    units = 1 if per == "level" else 3
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + 0.5 * 1000 * units)
    torch.testing.assert_close(loss.terms["nelbo"], loss.terms["reconstruction"] + loss.terms["kl"])
    without_kl = gradients(model, x, NegativeELBO(beta=0, num_samples=2))
    torch.testing.assert_close(gradients(model, x, free), without_kl)


def test_the_threshold_applies_to_each_unit_after_the_mean_over_the_batch() -> None:
    model, x = spread_vae(), images()
    trace = model.trace(x, 1)
    q = trace.latents[0].q
    assert isinstance(q, DiagonalNormal)
    kls = (0.5 * (q.loc**2 + q.scale**2 - 1) - q.scale.log()).mean(dim=0)
    low, middle, high = kls.sort().values.tolist()
    threshold = (low + middle) / 2
    loss = FreeBits(beta=2.0, free_bits=threshold, per="unit", num_samples=1)(trace, 0)
    assert float(loss.total.detach() - loss.terms["reconstruction"]) == pytest.approx(
        2 * (threshold + middle + high), rel=1e-5
    )
    torch.testing.assert_close(trace.latents[0].unit_kl.sum(-1), trace.latents[0].kl[0])


def test_the_threshold_applies_to_each_level() -> None:
    trace = two_levels()
    for free, per, penalty in (
        (0.6, "level", 1 + 0.6),
        (2.0, "level", 2 + 2),
        (0.1, "level", 1 + 0.375),
        (0.2, "unit", 2 * 0.5 + 3 * 0.2),
    ):
        loss = FreeBits(beta=1.0, free_bits=free, per=per, num_samples=4)(trace, 0)
        assert float(loss.total - loss.terms["reconstruction"]) == pytest.approx(penalty)
        assert float(loss.terms["kl"]) == pytest.approx(1.375)


def test_the_threshold_applies_to_elements_or_channels_of_a_map_that_depends_on_the_level_above() -> None:
    """KLs by loops over channels and places, averaged over samples and images, whose own KLs differ."""
    torch.manual_seed(0)
    locs = torch.randn(4, 5, 2, 3, 2)  # q and p of batch shape (S, B), z of shape (C, h, w)
    q = DiagonalNormal(locs, torch.ones_like(locs), event_dimensions=3)
    p = DiagonalNormal(torch.randn_like(locs), torch.ones_like(locs), event_dimensions=3)
    plain = two_levels()
    trace = Trace(plain.x, plain.px, (plain.latents[0], Latent(q, p, q.rsample())))
    kls = ((locs - p.loc).square() / 2).mean(dim=(0, 1))
    elements = [kls[c, i, j].item() for c in range(2) for i in range(3) for j in range(2)]
    channels = [kls[c].sum().item() for c in range(2)]
    for per, parts in (("unit", elements), ("channel", channels), ("level", [sum(channels)])):
        free = sorted(parts)[len(parts) // 2] + 0.01  # between the KLs of the parts, where there are several
        loss = FreeBits(beta=2.0, free_bits=free, per=per, num_samples=4)(trace, 0)
        top = [1.0] if per == "level" else [0.5, 0.5]
        penalty = 2 * sum(max(free, part) for part in [*top, *parts])
        assert float(loss.total - loss.terms["reconstruction"]) == pytest.approx(penalty, rel=1e-5), per
        assert float(loss.terms["kl"]) == pytest.approx(1 + sum(channels), rel=1e-5)


def test_models_without_kls_per_unit_are_rejected_per_unit_but_not_per_level() -> None:
    for posterior, prior in (
        ("full_normal", "standard_normal"),
        ("flow_coupling", "standard_normal"),
        ("diagonal_normal", "mixture"),
        ("diagonal_normal", "vamp"),
    ):
        trace = make_vae(posterior=posterior, prior=prior).trace(images(), 1)
        with pytest.raises(
            ConfigError, match="^objective=free_bits: the KL of these units has no closed form per unit; use objecti"
        ):
            FreeBits(beta=1.0, free_bits=0.1, per="unit", num_samples=1).check(trace)
        with pytest.raises(ConfigError, match="^objective=free_bits: the KL of these units has no closed form"):
            FreeBits(beta=1.0, free_bits=0.1, per="channel", num_samples=1).check(trace)
        FreeBits(beta=1.0, free_bits=0.1, per="level", num_samples=1).check(trace)
    trace = make_vae(posterior="deterministic").trace(images(), 1)
    for objective in (
        FreeBits(beta=1.0, free_bits=0.1, per="level", num_samples=1),
        Capacity(gamma=1.0, capacity=1, num_samples=1),
    ):
        with pytest.raises(ConfigError, match=f"^objective={objective.name}: posterior=deterministic has no log q"):
            objective.check(trace)


def test_zero_capacity_gives_the_plain_elbo() -> None:
    model, x = spread_vae(), images()
    capacity, elbo = Capacity(gamma=1.0, capacity=0, num_samples=2), NegativeELBO(beta=1.0, num_samples=2)
    trace = model.trace(x, 2)
    torch.testing.assert_close(capacity(trace, 0).total, elbo(trace, 0).total)
    torch.testing.assert_close(gradients(model, x, capacity), gradients(model, x, elbo))


def test_a_kl_below_the_capacity_is_increased() -> None:
    model, x = spread_vae(), images()
    rising = Capacity(gamma=Linear(steps=10, start=2.0, end=3.0), capacity=Linear(steps=10, end=50.0), num_samples=2)
    trace = model.trace(x, 2)
    kl = trace.kl.mean().item()
    for step, gamma, bound in ((0, 2, 0), (5, 2.5, 25), (math.inf, 3, 50)):
        loss = rising(trace, step)
        assert (loss.terms["gamma"], loss.terms["capacity"]) == (gamma, bound)
        expected = loss.terms["reconstruction"] + gamma * abs(kl - bound)
        torch.testing.assert_close(loss.total, expected)
        torch.testing.assert_close(loss.terms["nelbo"], loss.terms["reconstruction"] + loss.terms["kl"])
    assert 0 < kl < 25
    reconstruction = gradients(model, x, NegativeELBO(beta=0, num_samples=2))
    kl_gradient = gradients(model, x, NegativeELBO(beta=1, num_samples=2)) - reconstruction
    for step, factor in ((0, 2), (math.inf, -3)):
        difference = gradients(model, x, rising, step) - reconstruction
        torch.testing.assert_close(difference, factor * kl_gradient, rtol=1e-3, atol=1e-4)
    assert kl_gradient.norm() > 0.1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("FreeBits", {"per": "pixel"}, "per=pixel: must be one of unit, channel, level"),
        ("FreeBits", {"free_bits": -1}, "free_bits=-1: must be a finite number of at least 0, or a schedule"),
        ("FreeBits", {"free_bits": {"linear": {"start": 1}}}, "free_bits.linear.steps=: has no default"),
        ("FreeBits", {"num_samples": 0}, "num_samples=0: must be a whole number of at least 1"),
        ("Capacity", {"gamma": -2}, "gamma=-2: must be a finite number of at least 0, or a schedule"),
        ("Capacity", {"capacity": {"linear": {"steps": 9, "end": -1}}}, "capacity=-1.0: is the first or last value"),
    ],
)
def test_invalid_numbers_are_reported_in_one_line(name: str, arguments: dict[str, Any], message: str) -> None:
    valid = {
        "FreeBits": {"beta": 1.0, "free_bits": 0.1, "per": "unit", "num_samples": 1},
        "Capacity": {"gamma": 30.0, "capacity": 25.0, "num_samples": 1},
    }
    with pytest.raises(ConfigError) as caught:
        build({"_target_": f"nelbo.objectives.{name}", **valid[name], **arguments}, "objective")
    assert str(caught.value).startswith(f"objective.{message}") and "\n" not in str(caught.value)
