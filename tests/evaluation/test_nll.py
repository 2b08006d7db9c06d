"""The NLL and its errors: exact cases, convergence, heavy tails, processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import genpareto
from torch import Tensor

from nelbo.distributions import DiagonalNormal
from nelbo.evaluation import ELBO, NLL, ActiveUnits, importance
from nelbo.evaluation.measure import Findings, NotApplicable, Subject
from nelbo.evaluation.pareto import pareto_shape, tail_size, trusted_below
from nelbo.evaluation.processes import Processes
from nelbo.metrics import ActiveUnits as ActiveUnitsMetric
from nelbo.models import VAE
from nelbo.views.images import evenly_spaced
from tests.helpers.codes import with_posterior
from tests.helpers.exact import exact
from tests.helpers.factors import SHAPE, images, make_vae
from tests.helpers.subjects import make_subject

EXTENT, POINTS = 8.0, 401
"""The grid of numerical integration: from -8 to 8 standard deviations of the prior, 401 points."""


def nll(num_samples: int, *, limit: int | None = None, log_weights: bool = False) -> NLL:
    return NLL(num_samples=num_samples, limit=limit, log_weights=log_weights)


def on_a_grid(model: VAE, x: Tensor) -> Tensor:
    """Return the log of the integral of p(z) p(x|z) over a square, by the trapezoidal rule, (B,)."""
    axis = torch.linspace(-EXTENT, EXTENT, POINTS, dtype=torch.float64)
    dimensions = [axis] * model.latent_dim
    z = torch.cartesian_prod(*dimensions).reshape(-1, 1, model.latent_dim)
    step = axis[1] - axis[0]
    parts = [model.log_joint(x, [part.expand(-1, len(x), -1)]) for part in z.split(20_000)]
    return torch.cat(parts).logsumexp(dim=0) + model.latent_dim * step.log()


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_nonlinear_decoder_matches_numerical_integration(latent_dim: int, likelihood: str) -> None:
    model = make_vae("mlp", likelihood=likelihood, latent_dim=latent_dim, shape=(1, 3, 3)).double()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter *= 3  # far from linear
        x = images(likelihood, 5, (1, 3, 3)).double()
        integral = on_a_grid(model, x)
        estimate = importance(model.eval(), x, 200_000)
    assert (estimate.log_likelihood - integral).abs().max() < 0.01


def test_ten_seeds_lie_around_the_exact_likelihood_of_a_linear_model() -> None:
    model = make_vae("linear", likelihood="gaussian_scheduled").double()
    x = images(count=20).double()
    with torch.no_grad():
        truth = -exact(model, x).mean().item()
    values = torch.tensor([nll(5000)(make_subject(model, x, seed=seed)).values["nll"] for seed in range(10)])
    assert abs(values.mean() - truth) < 3 * values.std() / math.sqrt(10)


def test_the_sampling_error_is_the_standard_deviation_between_seeds() -> None:
    model = make_vae("linear", likelihood="gaussian_scheduled").double()
    x = images(count=10).double()
    runs = [nll(500)(make_subject(model, x, seed=seed)).values for seed in range(40)]
    deviation = torch.tensor([values["nll"] for values in runs]).std()
    estimated = torch.tensor([values["nll_sampling_se"] for values in runs]).mean()
    assert 0.7 < estimated / deviation < 1.4  # the standard error of a deviation of 40 values is 11%


def test_the_curve_falls_and_a_nll_that_has_not_converged_gives_a_warning() -> None:
    model = make_vae("linear", likelihood="gaussian_scheduled").double()
    x = images(count=200).double()
    many = nll(1000)(make_subject(model, x))
    curve = [many.values[f"nll_at_{count}"] for count in (1, 10, 100)] + [many.values["nll"]]
    assert curve == sorted(curve, reverse=True)
    assert not any("converged" in warning for warning in many.warnings)
    # Similar images, so the standard error is small.
    few = nll(2)(make_subject(model, torch.cat([x[:1] + 0.001 * i for i in range(50)])))
    assert any("nll has not converged" in warning and "num_samples=20" in warning for warning in few.warnings)
    assert "nll_gain" not in nll(1)(make_subject(model, x)).values
    assert any("too few to judge the weights' tail" in warning for warning in few.warnings)


def narrow_posterior(scale: float) -> VAE:
    """Return a model whose decoder ignores z, so that the posterior is N(0, 1), with q = N(0, scale^2)."""
    model = make_vae("linear", likelihood="gaussian_fixed", latent_dim=1).double()
    with torch.no_grad():
        for parameter in [*model.decoder.parameters(), *model.likelihood.parameters()]:
            parameter.zero_()
    zeros = torch.zeros(100, 1).double()
    return with_posterior(model, lambda x: DiagonalNormal(zeros[: len(x)], zeros[: len(x)] + scale))


def test_the_sampling_error_of_equal_weights_is_zero() -> None:
    """q is the posterior, so every weight is p(x), 1 / ESS is 1 / S, and the variance is 0."""
    result = nll(50)(make_subject(narrow_posterior(1.0), images(count=100).double()))
    assert result.values["ess_min"] == pytest.approx(50)
    assert result.values["nll_sampling_se"] < 1e-6  # without the term 1 / S it would be 0.014


def test_a_gain_above_the_standard_error_and_above_twice_its_own_error_gives_a_warning() -> None:
    def warns(gains: list[float], nll_se: float) -> bool:
        findings = Findings({"nll_se": nll_se})
        nll(100).add_gain(findings, torch.tensor(gains))
        return bool(findings.warnings)

    assert warns([0.3, 0.5], nll_se=0.1)  # a gain of 0.4 +- 0.1
    assert not warns([0.3, 0.5], nll_se=0.5)
    assert not warns([0.05, 0.25], nll_se=0.1)  # 0.15 +- 0.1: above the first bound, below the second


def test_the_size_of_the_tail_and_the_trusted_shape_are_those_of_the_paper() -> None:
    """Vehtari et al. 2024, sections 3.1 and 3.2."""
    assert [tail_size(samples) for samples in (100, 225, 10_000)] == [20, 45, 300]
    assert trusted_below(100) == pytest.approx(1 / 2) and trusted_below(1000) == pytest.approx(2 / 3)
    assert trusted_below(10_000) == 0.7 == trusted_below(10**9)


@pytest.mark.parametrize(("scale", "trusted"), [(0.3, False), (0.9, True)])
def test_heavy_tails_give_a_warning_even_if_the_gain_is_small(scale: float, trusted: bool) -> None:
    """Weights of N(0, 1) under N(0, s^2) have a tail of shape 1 - s^2, up to logarithmic terms."""
    model, x = narrow_posterior(scale), images(count=100).double()
    findings = nll(5000)(make_subject(model, x))
    shape = findings.values["nll_pareto_k"]
    assert isinstance(shape, float) and abs(shape - (1 - scale**2)) < 0.12
    assert any("Pareto" in warning for warning in findings.warnings) != trusted
    assert findings.values["nll_untrusted"] < 0.05 if trusted else findings.values["nll_untrusted"] > 0.7


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_the_shape_of_pareto_samples(shape: float) -> None:
    """Samples are of scipy's generalised Pareto distribution; the prior of the estimate is removed."""
    drawn = genpareto.rvs(shape, size=(200, 400), random_state=0)
    log_weights = torch.from_numpy(np.log(np.vstack([np.sort(drawn, axis=0)[::-1], np.full(400, 1e-12)])))
    estimate = (210 * pareto_shape(log_weights) - 5) / 200
    assert abs(estimate.mean() - shape) < 0.02
    assert pareto_shape(torch.zeros(30, 2)).tolist() == [0, 0]


def test_the_tail_is_that_of_all_weights_although_they_are_streamed() -> None:
    model, x = make_vae().double().eval(), images(count=4).double()
    estimate = importance(model, x, 3000, keep_log_weights=True)
    assert estimate.log_weights is not None and estimate.shape is not None
    largest = estimate.log_weights.sort(dim=0, descending=True).values[: tail_size(3000) + 1]
    torch.testing.assert_close(estimate.shape, pareto_shape(largest), atol=1e-3, rtol=0)


def test_values_that_are_not_finite_give_a_warning() -> None:
    findings = Findings()
    findings.add_mean("nll", torch.tensor([1.0, math.inf, math.nan]))
    assert findings.warnings == ["nll is not finite for 2 of 3 images"]
    single = Findings()
    single.add_mean("nll", torch.tensor([1.0]))
    assert single.values == {"nll": 1.0}  # one image has no standard error


def test_impossible_images_have_no_effective_samples() -> None:
    """All weights are 0: the model is certain about pixels, and wrong about half of them."""
    model = make_vae(likelihood="bernoulli")
    with torch.no_grad():
        model.likelihood.project.set_bias(torch.full(SHAPE, math.inf))
    findings = nll(200)(make_subject(model, torch.zeros(3, *SHAPE)))
    assert findings.values["nll"] == math.inf and findings.values["ess"] == 0
    assert "nll is not finite for 3 of 3 images" in findings.warnings


def test_effective_samples_by_hand() -> None:
    model, x = make_vae().double().eval(), images(count=4).double()
    estimate = importance(model, x, 30, keep_log_weights=True)
    assert estimate.log_weights is not None and estimate.log_weights.shape == (30, 4)
    weights = estimate.log_weights.double().softmax(dim=0)
    torch.testing.assert_close(estimate.effective_samples, 1 / weights.square().sum(dim=0), rtol=1e-4, atol=1e-4)
    likelihood = estimate.log_weights.double().logsumexp(dim=0) - math.log(30)
    torch.testing.assert_close(estimate.log_likelihood, likelihood, rtol=1e-6, atol=1e-4)


def test_log_weights_are_returned_on_request() -> None:
    findings = nll(6, log_weights=True)(make_subject(make_vae(), images(count=7), batch_size=3))
    assert findings.per_image["log_weights"].shape == (7, 6)
    assert "log_weights" not in nll(6)(make_subject(make_vae(), images(count=7))).per_image


def test_bits_per_dim_are_reported_for_discrete_or_dequantised_pixels_only() -> None:
    discrete = nll(20)(make_subject(make_vae(likelihood="categorical"), images("categorical")))
    assert math.isclose(discrete.values["nll_bits_per_dim"], discrete.values["nll"] / (30 * math.log(2)), rel_tol=1e-6)
    assert "nll_bits_per_dim" not in nll(20)(make_subject(make_vae(), images())).values
    dequantized = nll(20)(make_subject(make_vae(), images(), dequantized_levels=256))
    expected = 8 + dequantized.values["nll"] / (30 * math.log(2))
    assert math.isclose(dequantized.values["nll_bits_per_dim"], expected, rel_tol=1e-6)


def test_a_deterministic_code_has_a_reconstruction_but_no_nll() -> None:
    subject = make_subject(make_vae(posterior="deterministic"), images())
    with pytest.raises(NotApplicable, match="posterior=deterministic has no log q"):
        nll(5)(subject)
    assert set(ELBO(num_samples=1, limit=None)(subject).values) == {"distortion", "distortion_se", "elbo_samples"}


def test_kl_and_reconstruction_are_those_of_traces() -> None:
    model, x = make_vae().double(), images(count=9).double()
    values = ELBO(num_samples=4000, limit=None)(make_subject(model, x, batch_size=4)).values
    with torch.no_grad():
        trace = model.trace(x, 4000)
    assert math.isclose(values["rate"], trace.kl.mean(), rel_tol=1e-9)
    assert abs(values["distortion"] + trace.log_px.mean()) < 0.1
    assert math.isclose(values["nelbo"], values["rate"] + values["distortion"], rel_tol=1e-12)
    error = trace.kl[0].std() / 3
    assert math.isclose(values["rate_se"], error, rel_tol=1e-9)


def test_active_units_are_those_of_the_metric() -> None:
    model, x = make_vae(), images(count=50)
    metric = ActiveUnitsMetric(model.trace(x))
    metric.update(model.trace(x))
    values = ActiveUnits(limit=None)(make_subject(model, x, batch_size=16)).values
    assert values == {"active_units": int(metric.compute()), "units": 3}


def test_a_map_visits_every_image_once_or_evenly_spaced_ones() -> None:
    x = images(count=23)
    subject = make_subject(make_vae(), x, batch_size=5)
    sums = subject.map("", lambda batch: {"sum": batch.sum((1, 2, 3))})["sum"]
    torch.testing.assert_close(sums, x.sum((1, 2, 3)))
    some = subject.map("", lambda batch: {"sum": batch.sum((1, 2, 3))}, limit=7)["sum"]
    torch.testing.assert_close(some, x[evenly_spaced(23, 7)].sum((1, 2, 3)))


def test_a_measure_does_not_change_the_random_state() -> None:
    subject = make_subject(make_vae(), images())
    before = torch.get_rng_state()
    nll(10)(subject)
    assert torch.equal(torch.get_rng_state(), before)


class Shared(Processes):
    """One of two processes, which records its parts instead of exchanging them."""

    def __init__(self, rank: int, parts: list[list[Tensor]]) -> None:
        super().__init__(rank, 2)
        object.__setattr__(self, "parts", parts)

    def join(self, mine: list[Tensor], total: int) -> list[Tensor]:
        self.parts.append(mine)  # type: ignore[attr-defined]
        return mine

    def same(self, value: object) -> object:  # type: ignore[override]
        return value


def test_two_processes_share_the_batches() -> None:
    """Each computes exactly its half of what a single process does; the exchange itself is tested with torchrun."""
    x = images(count=23)
    alone = make_subject(make_vae(), x, batch_size=5)

    def noisy(batch: Tensor) -> dict[str, Tensor]:
        return {"x": batch.sum((1, 2, 3)) + torch.randn(len(batch))}

    whole = list(alone.map("", noisy)["x"].split(5))
    for rank in (0, 1):
        parts: list[list[Tensor]] = []
        subject = Subject("", alone.model, alone.splits, batch_size=5, processes=Shared(rank, parts))
        subject.map("", noisy)
        assert all(map(torch.equal, parts[0], whole[rank::2]))
