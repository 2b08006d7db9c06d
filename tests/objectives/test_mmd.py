"""The MMD between known distributions, and combinations that train.py rejects."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from nelbo.distributions import Delta, DiagonalNormal, StandardNormal
from nelbo.errors import ConfigError
from nelbo.objectives import WAE, InfoVAE, NegativeELBO, Reconstruction
from nelbo.objectives.mmd import KERNELS, Kernel, mmd
from nelbo.trace import Latent, Trace
from tests.helpers.factors import images, make_vae
from tests.helpers.forks import train_all
from tests.helpers.largest import LargestTensor
from tests.helpers.traces import trace_of

SCALES = [1, 10]


def wae(weight: float = 10.0, kernel: str = "imq", scales: list[float] | None = None) -> WAE:
    return WAE(mmd_weight=weight, kernel=kernel, scales=SCALES if scales is None else scales, num_samples=2)


def info(alpha: float = 0.0, weight: float = 10.0) -> InfoVAE:
    return InfoVAE(alpha=alpha, mmd_weight=weight, kernel="rbf", scales=SCALES, num_samples=2)


def similarity(kernel: str, dimensions: int) -> Kernel:
    return partial(wae(kernel=kernel).similarity, dimensions=dimensions)


def direct(z: Tensor, draws: Tensor, kernel: Kernel) -> Tensor:
    """Return MMD^2 from the differences of all pairs."""

    def pairs(one: Tensor, other: Tensor) -> Tensor:
        return kernel((one.unsqueeze(-2) - other.unsqueeze(-3)).square().sum(-1))

    others = ~torch.eye(z.shape[-2], dtype=torch.bool)
    within = sum(pairs(each, each)[..., others].mean(-1) for each in (z, draws))
    return within - 2 * pairs(z, draws).mean((-2, -1))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("shift", "spread"), [(0.0, 1.0), (1e4, 1.0), (-300.0, 1e-3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_mmd_and_its_gradient_are_those_of_all_differences(
    kernel: str, shift: float, spread: float, dtype: torch.dtype
) -> None:
    """Also for codes far from the prior, whose distances are small against their norms; compared in float64."""
    z = (shift + spread * torch.randn(2, 30, 5)).to(dtype)
    z[0, 1] = z[0, 0]  # two images with the same code
    draws = torch.randn(2, 30, 5).to(dtype)
    found, expected = [], []
    for values, compute, kind in ((found, mmd, dtype), (expected, direct, torch.float64)):
        codes = z.to(kind).requires_grad_()
        value = compute(codes, draws.to(kind), similarity(kernel, 5))
        values += [value.double(), *(each.double() for each in torch.autograd.grad(value.sum(), codes))]
    tolerance = 1e-9 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(found[0], expected[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found[1], expected[1], rtol=tolerance, atol=tolerance * float(expected[1].abs().max()))


def test_no_tensor_holds_the_differences_of_all_pairs() -> None:
    z = torch.randn(2, 64, 50, requires_grad=True)
    with LargestTensor() as largest:
        mmd(z, torch.randn(2, 64, 50), similarity("imq", 50)).sum().backward()
    assert largest.elements <= 2 * 64 * 64


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_mmd_of_equal_distributions_is_zero_on_average(kernel: str) -> None:
    estimates = mmd(torch.randn(4000, 12, 3), torch.randn(4000, 12, 3), similarity(kernel, 3))
    assert abs(estimates.mean()) < 4 * estimates.std() / math.sqrt(4000)
    assert estimates.min() < 0  # an unbiased estimate can be negative


def test_the_mmd_of_two_gaussians_with_the_rbf_kernel() -> None:
    """For d ~ N(m, v I), E exp(-|d|^2 / C) = (1 + 2 v / C)^(-D / 2) exp(-|m|^2 / (C + 2 v))."""
    mean, scale, size = torch.tensor([0.8, -0.3, 0.4]).double(), 0.6, 4000

    def expected(distance: float, variance: float) -> float:
        constants = [2 * 3 * each for each in SCALES]
        return sum((1 + 2 * variance / c) ** -1.5 * math.exp(-distance / (c + 2 * variance)) for c in constants)

    exact = expected(0, 2 * scale**2) + expected(0, 2) - 2 * expected(float(mean.square().sum()), 1 + scale**2)
    z = mean + scale * torch.randn(size, 12, 3).double()
    estimates = mmd(z, torch.randn(size, 12, 3).double(), similarity("rbf", 3))
    error = estimates.std() / math.sqrt(size)
    assert abs(estimates.mean() - exact) < 4 * error and error < 0.02 * exact


def test_the_mmd_of_two_gaussians_with_the_imq_kernel() -> None:
    mean, scale, size = 0.9, 0.5, 20_000
    grid = torch.linspace(-14, 14, 20_001).double()

    def expected(distance: float, variance: float) -> Tensor:
        density = Normal(distance, math.sqrt(variance)).log_prob(grid).exp()
        kernel = sum((2 * each / (2 * each + grid.square()) for each in SCALES), torch.zeros(()))
        return torch.trapezoid(density * kernel, grid)

    exact = expected(0, 2 * scale**2) + expected(0, 2) - 2 * expected(mean, 1 + scale**2)
    z = mean + scale * torch.randn(size, 8, 1).double()
    estimates = mmd(z, torch.randn(size, 8, 1).double(), similarity("imq", 1))
    error = estimates.std() / math.sqrt(size)
    assert abs(estimates.mean() - exact) < 4 * error and error < 0.02 * exact


def test_the_objective_compares_each_sample_of_the_codes_with_the_prior() -> None:
    """With two samples per image, the MMD is averaged over samples, not computed on a batch of twice the size."""
    z = torch.tensor([[[0.0], [1.0]], [[5.0], [6.0]]])
    trace = trace_of(Delta(z[0]), z)
    torch.manual_seed(3)
    result = wae().mmd(trace)
    torch.manual_seed(3)
    draws = trace.latents[0].p.sample(torch.Size((2, 2)))
    expected = torch.zeros(())
    for s in range(2):
        for constant in (2 * each for each in SCALES):
            within = sum(constant / (constant + (each[s, 0, 0] - each[s, 1, 0]) ** 2) for each in (z, draws))
            between = [constant / (constant + (a - b) ** 2) for a in z[s, :, 0] for b in draws[s, :, 0]]
            expected = expected + (within - 2 * sum(between) / 4) / 2
    torch.testing.assert_close(result, expected)


def test_following_the_gradient_moves_codes_to_the_prior() -> None:
    z = (1 + 0.2 * torch.randn(1, 200, 2)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        wae().mmd(trace_of(Delta(z[0]), z)).backward()
        optimizer.step()
    codes = z.detach()[0]
    assert (codes.mean(0).abs() < 4 / math.sqrt(200)).all()
    assert ((codes.std(0) - 1).abs() < 0.25).all()


def test_without_an_mmd_weight_the_losses_are_the_elbo_and_the_autoencoder() -> None:
    model = make_vae()
    trace = model.trace(images(), 2)
    pairs = [
        (info(0.0, 0.0), NegativeELBO(beta=1.0, num_samples=2)),
        (info(-1.0, 0.0), NegativeELBO(beta=2.0, num_samples=2)),
        (wae(0.0), Reconstruction(num_samples=2)),
    ]
    for one, other in pairs:
        totals = [objective(trace, math.inf).total for objective in (one, other)]
        torch.testing.assert_close(*totals)
        gradients = [torch.autograd.grad(total, list(model.parameters()), retain_graph=True) for total in totals]
        for gradient, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(gradient, expected)


def test_the_loss_adds_the_weighted_mmd() -> None:
    trace = make_vae().trace(images(), 2)
    loss = info(0.25, 40.0)(trace, 0)
    terms = loss.terms
    torch.testing.assert_close(loss.total, terms["reconstruction"] + 0.75 * terms["kl"] + 40 * terms["mmd"])
    torch.testing.assert_close(terms["nelbo"], terms["reconstruction"] + terms["kl"])
    loss = wae(40.0)(trace, 0)
    torch.testing.assert_close(loss.total, loss.terms["reconstruction"] + 40 * loss.terms["mmd"])
    assert "nelbo" in loss.terms
    deterministic = make_vae(posterior="deterministic").trace(images(), 2)
    wae().check(deterministic)
    assert set(wae()(deterministic, 0).terms) == {"reconstruction", "mmd", "mmd_weight"}


def test_unsupported_models_and_options_are_rejected() -> None:
    for objective, name in ((wae(), "wae"), (info(), "info")):
        assert objective.least_batch == 2
        with pytest.raises(ConfigError, match=f"^objective={name}: compares the codes of a batch with each other"):
            objective(make_vae().trace(images(count=1), 2), 0)
    top, code = DiagonalNormal(torch.zeros(2, 3), torch.ones(2, 3)), Delta(torch.zeros(2, 3))
    trace = trace_of(top, top.sample((1,)), StandardNormal(torch.zeros(3)))
    below = Latent(code, DiagonalNormal(torch.ones(3), torch.ones(3)), code.rsample(torch.Size((1,))))
    with pytest.raises(ConfigError, match="^objective=wae: needs the KLs of the levels below the top, and a determini"):
        wae().check(Trace(trace.x, trace.px, (*trace.latents, below)))
    with pytest.raises(ConfigError, match="^alpha=1.5: must be at most 1"):
        info(1.5)
    with pytest.raises(ConfigError, match="^kernel=linear: must be one of imq, rbf"):
        wae(kernel="linear")
    with pytest.raises(ConfigError, match=r"^scales=\[\]: must be a list of numbers above 0"):
        wae(scales=[])
    with pytest.raises(ConfigError, match=r"^scales\[1\]=0: must be a finite number above 0"):
        wae(scales=[1, 0])


def test_train_py_reports_incompatible_components_in_one_line(tmp_path: Path) -> None:
    messages = {
        "beta_tc posterior=full_normal": "objective=beta_tc: needs continuous latents with independent units",
        "dip posterior=flow": "objective=dip: needs a q(z|x) with a mean and a covariance in closed form;",
        "info posterior=deterministic": "objective=info: posterior=deterministic has no log q(z|x);",
        "wae data.batch_size=1": "data.batch_size=1: ",
        "factor objective.latent_dim=3": "objective.latent_dim=3: must equal the model's latent_dim, 32",
    }
    chosen = ["model=mlp_vae", "data=digits", "trainer=smoke", f"hydra.run.dir={tmp_path / 'run'}"]
    runs = {f"{i}": [*chosen, *f"objective={overrides}".split()] for i, overrides in enumerate(messages)}
    for done, (overrides, message) in zip(train_all(runs, tmp_path).values(), messages.items(), strict=True):
        assert done.returncode == 2, overrides
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {message}"), line
