"""Flows: densities against the change of variables by autograd, sampling, tempering and precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal
from torch.func import jacrev

from nelbo import priors
from nelbo.distributions import Flow, sample_with_density, temper
from nelbo.errors import ConfigError
from nelbo.heads import FlowPosterior
from nelbo.nets import FlowTransforms
from nelbo.nets.flows import KINDS

DIM, CONTEXT = 4, 3


def randomized(module: torch.nn.Module, size: float = 0.4) -> torch.nn.Module:
    """Return the module in float64 with random parameters, far from the initial near-identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * size)
    return module.double()


def posterior(kind: str, dim: int = DIM, batch: int = 5, size: float = 0.4) -> Flow:
    head = FlowPosterior((6,), dim, context=CONTEXT, kind=kind, layers=3, hidden=[8])
    q = randomized(head, size)(torch.randn(batch, 6).double())
    assert isinstance(q, Flow)
    return q


def prior(kind: str, dim: int = DIM, batch: int = 1, size: float = 0.4) -> Flow:
    module = priors.Flow((dim,), (1, 2, 2), kind=kind, layers=4, hidden=[8])
    p = randomized(module, size)(lambda x: x)
    assert isinstance(p, Flow)
    return p


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [posterior, prior])
def test_density_is_given_by_the_change_of_variables(make: type, kind: str) -> None:
    """log p(f(e)) = log base(e) - log |det df/de| with the determinant of each example by autograd."""
    flow = make(kind)
    e = flow.base.rsample((2,)).detach()
    z = flow.transform(e)

    def transform(flat: Tensor) -> Tensor:
        result: Tensor = flow.transform(flat.reshape(e.shape))
        return result.reshape(-1, DIM)

    jacobian = torch.autograd.functional.jacobian(transform, e.reshape(-1, DIM))
    blocks = torch.stack([jacobian[i, :, i] for i in range(len(jacobian))])
    assert (blocks.abs() > 1e-3).sum() > len(blocks) * DIM  # it mixes coordinates
    exact = flow.base.log_prob(e) - torch.linalg.slogdet(blocks).logabsdet.reshape(e.shape[:-1])
    torch.testing.assert_close(flow.log_prob(z), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [posterior, prior])
@pytest.mark.parametrize("dim", [1, DIM])
def test_samples_come_with_their_density(make: type, kind: str, dim: int) -> None:
    flow = make(kind, dim)
    z, log_p = sample_with_density(flow, 7)
    assert log_p is not None and z.shape == (7, *flow.batch_shape, dim) and log_p.shape == (7, *flow.batch_shape)
    torch.testing.assert_close(log_p, flow.log_prob(z), rtol=1e-6, atol=1e-6)
    plain = Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
    assert sample_with_density(plain, 7)[1] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [posterior, prior])
def test_density_integrates_to_one_and_samples_have_its_moments(make: type, kind: str) -> None:
    flow = make(kind, 2, 1, 0.25)  # larger parameters make the tails grow exponentially, beyond any grid
    with torch.no_grad():
        samples = flow.sample((40_000,)).reshape(-1, 2)
        centre, spread = samples.mean(0), samples.std(0)
        axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
        points = centre + spread * torch.cartesian_prod(axis, axis)
        cell = (axis[1] - axis[0]) ** 2 * spread.prod()
        density = flow.log_prob(points.unsqueeze(1)).exp().flatten() * cell
    assert density.sum().item() == pytest.approx(1, abs=2e-3)
    for i in range(2):
        for power in (1, 2):
            exact = (density * points[:, i] ** power).sum()
            deviation = ((density * points[:, i] ** (2 * power)).sum() - exact**2).sqrt()
            assert abs((samples[:, i] ** power).mean() - exact) < 5 * deviation / math.sqrt(len(samples))


@pytest.mark.parametrize("kind", KINDS)
def test_temperature_multiplies_the_scale_of_the_base(kind: str) -> None:
    flow = prior(kind)
    cold = temper(flow, 0.5)
    assert isinstance(cold, Flow) and cold.transform is flow.transform
    torch.testing.assert_close(cold.base.scale, flow.base.scale / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_flows_compute_in_float32_under_autocast(kind: str) -> None:
    head = FlowPosterior((6,), DIM, context=CONTEXT, kind=kind, layers=3, hidden=[8])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        q, z = head(torch.randn(5, 6)), torch.randn(7, 5, DIM)
    expected = q.log_prob(z)
    torch.manual_seed(1)
    sample, log_q = q.rsample_and_log_prob((7,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(q.log_prob(z), expected)
        torch.manual_seed(1)
        for result, exact in zip(q.rsample_and_log_prob((7,)), (sample, log_q), strict=True):
            assert torch.equal(result, exact)


def test_mean_of_a_flow_is_not_implemented() -> None:
    with pytest.raises(NotImplementedError):
        _ = posterior("coupling").mean


def test_every_output_depends_on_the_context_and_on_every_coordinate() -> None:
    for kind in KINDS:
        layers = randomized(FlowTransforms(DIM, CONTEXT, kind=kind, layers=3, hidden=[32]))
        e, context = torch.randn(DIM).double(), torch.randn(CONTEXT).double()
        by_e = jacrev(lambda e, c, layers=layers: layers(c)(e))(e, context)
        by_context = jacrev(lambda c, e, layers=layers: layers(c)(e))(context, e)
        # The order is reversed between layers, so that every coordinate affects every other.
        assert (by_e.abs() > 0).all() and (by_context.abs() > 0).any(dim=0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "planar"}, "kind=planar: must be one of autoregressive, coupling, spline"),
        ({"layers": 0}, "layers=0: must be a whole number of at least 1"),
        ({"hidden": [8, -1]}, r"hidden\[1\]=-1: must be a whole number of at least 1"),
    ],
)
def test_invalid_options_raise(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        priors.Flow((DIM,), (1, 2, 2), **{"kind": "coupling", "layers": 2, "hidden": [8]} | options)  # type: ignore[arg-type]
