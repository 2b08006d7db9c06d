"""The two parts of the inference gap against closed forms of linear models."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from nelbo.distributions import DiagonalNormal, FullNormal
from nelbo.errors import ConfigError
from nelbo.evaluation import Gaps, gaps, importance
from nelbo.evaluation.gaps import elbo
from nelbo.evaluation.importance import Importance
from nelbo.evaluation.measure import NotApplicable
from nelbo.evaluation.refinement import fit
from nelbo.models import VAE, Model
from tests.helpers.codes import with_posterior
from tests.helpers.exact import DENSITIES, exact
from tests.helpers.factors import LIKELIHOODS, POSTERIORS, PRIORS, images, make_vae
from tests.helpers.subjects import make_subject

SETTINGS = {"num_steps": 300, "lr": 0.1, "gradient_samples": 20, "num_samples": 2000, "limit": None}
SIGMA = 0.6


def linear(posterior: str) -> VAE:
    """A linear decoder whose posteriors are correlated, and an encoder of random weights."""
    model = make_vae("linear", posterior, likelihood="gaussian_fixed").double().eval().requires_grad_(False)
    model.likelihood.sigma.fill_(SIGMA)
    project = model.likelihood.project.layers[0]
    project.weight[:, 0] += 0.3 * project.weight[:, 1]  # small enough that weights have a finite variance
    return model


def true_posterior(model: VAE, x: Tensor) -> MultivariateNormal:
    """Return N(S W^T (x - b) / sigma^2, S) with S = (I + W^T W / sigma^2)^-1."""
    unit = torch.eye(3).double()
    offset = model.decode(torch.zeros(3).double()).mean.flatten()
    weights = torch.stack([model.decode(row).mean.flatten() - offset for row in unit], dim=1)
    precision = unit + weights.T @ weights / SIGMA**2
    mean = (x.flatten(1) - offset) @ weights @ precision.inverse() / SIGMA**2
    return MultivariateNormal(mean, precision_matrix=precision)


def best_diagonal(posterior: MultivariateNormal) -> MultivariateNormal:
    """Return N(m, diag(1 / (S^-1)_ii)), which has the smallest KL(q || N(m, S)) of all with a diagonal covariance."""
    variance = 1 / posterior.precision_matrix.diagonal(dim1=-2, dim2=-1)
    return MultivariateNormal(posterior.mean, torch.diag_embed(variance.expand_as(posterior.mean)))


def as_full(q: Distribution) -> MultivariateNormal:
    if isinstance(q, MultivariateNormal):
        return q
    assert isinstance(q, DiagonalNormal)
    return MultivariateNormal(q.loc, torch.diag_embed(q.scale.square()))


def sampling_error(model: VAE, q: Distribution, x: Tensor) -> Tensor:
    """Return the standard error, (B,), of an ELBO from 2000 samples with an exact KL."""
    log_px = model.decode(q.sample(torch.Size((2000,)))).log_prob(x)
    return log_px.std(dim=0) / math.sqrt(2000)


@pytest.mark.parametrize("posterior", ["diagonal_normal", "full_normal"])
def test_the_gaps_of_linear_models(posterior: str) -> None:
    """The gaps are KLs to the true posterior, of the best member of the family and of the encoder's q."""
    model, x = linear(posterior), images(count=20).double()
    truth = true_posterior(model, x)
    best = truth if posterior == "full_normal" else best_diagonal(truth)
    approximation = kl_divergence(best, truth)
    assert posterior == "full_normal" or approximation.min() > 0.03
    inference = kl_divergence(as_full(model.encode(x)), truth)
    findings = Gaps(**SETTINGS)(make_subject(model, x))  # type: ignore[arg-type]
    per_image = findings.per_image
    optimal, amortised = (sampling_error(model, q, x) for q in (best, model.encode(x)))
    for name, expected, error in (
        ("approximation_gap", approximation, optimal),
        ("amortisation_gap", inference - approximation, amortised + optimal),
        ("inference_gap", inference, amortised),
    ):
        assert ((per_image[name] - expected).abs() < 4 * error + 0.02).all()  # 0.02: error of the optimisation
        assert abs((per_image[name] - expected).mean()) < 4 * error.mean() / math.sqrt(len(x)) + 0.02
    torch.testing.assert_close(-per_image["gaps_nll"], exact(model, x), atol=0.05, rtol=0)
    total = per_image["approximation_gap"] + per_image["amortisation_gap"]
    torch.testing.assert_close(total, per_image["inference_gap"])
    assert not findings.warnings
    assert {key: findings.values[f"gaps_{key}"] for key in ("steps", "samples", "images")} == {
        "steps": 300,
        "samples": 2000,
        "images": 20,
    }


@pytest.mark.parametrize("posterior", ["diagonal_normal", "full_normal"])
def test_the_optimised_q_is_the_best_one(posterior: str) -> None:
    model, x = linear(posterior), images(count=5).double()
    truth = true_posterior(model, x)
    best = truth if posterior == "full_normal" else best_diagonal(truth)
    _, fitted = fit(model, x, num_steps=300, lr=0.1, gradient_samples=20)
    assert kl_divergence(as_full(fitted.q), best).max() < 0.02 < kl_divergence(as_full(model.encode(x)), best).min()


def test_with_the_true_posterior_both_bounds_are_exact() -> None:
    model, x = linear("full_normal"), images(count=5).double()
    truth = true_posterior(model, x)
    inference = replace(model.infer(x), q=FullNormal(truth.mean, truth.scale_tril.expand(5, 3, 3)))
    torch.testing.assert_close(importance(model, x, 300, inference=inference).log_likelihood, exact(model, x))
    # The KL of the ELBO is exact, log p(x|z) is sampled.
    torch.testing.assert_close(elbo(model, inference, x, 300), exact(model, x), atol=0.5, rtol=0)


@pytest.mark.parametrize("posterior", DENSITIES)
def test_the_elbo_is_that_of_traces(posterior: str) -> None:
    model, x = make_vae(posterior=posterior).double().eval().requires_grad_(False), images(count=5).double()
    torch.manual_seed(1)
    sampled = elbo(model, model.infer(x), x, 400)
    torch.manual_seed(1)
    trace = model.trace(x, 400)
    torch.testing.assert_close(sampled, (trace.log_px - trace.kl).mean(dim=0))


@pytest.mark.parametrize("posterior", DENSITIES)
def test_free_parameters_start_at_the_encoder_and_differ_by_image(posterior: str) -> None:
    model, x = make_vae(posterior=posterior).double().eval().requires_grad_(False), images(count=5).double()
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    inference = model.infer(x)
    parameters, z = inference.parameters(), torch.randn(4, 5, 3).double()
    log_q = inference.q.log_prob(z)
    torch.testing.assert_close(inference.replace(parameters).q.log_prob(z), log_q)
    changed = [parameter.clone() for parameter in parameters]
    for parameter in changed:
        parameter[0] += 0.5
    change = (inference.replace(changed).q.log_prob(z) - log_q).abs().amax(dim=0)
    assert change[0] > 1e-3 and change[1:].max() < 1e-12


def test_free_parameters_are_those_of_q_or_else_the_features_of_the_encoder() -> None:
    """The tiny encoder has 8 features."""
    x = images(count=2)
    sizes = {
        posterior: [parameter.shape[1:] for parameter in model.infer(x).parameters()]
        for posterior in ("diagonal_normal", "full_normal", "laplace", "flow_coupling")
        for model in [make_vae(posterior=posterior)]
    }
    assert sizes == {
        "diagonal_normal": [(3,), (3,)],
        "full_normal": [(3,), (3,), (3, 3)],
        "laplace": [(3,), (3,)],
        "flow_coupling": [(8,)],
    }


@pytest.mark.parametrize("posterior", [name for name in DENSITIES if name not in ("diagonal_normal", "full_normal")])
def test_other_families_improve_too(posterior: str) -> None:
    model, x = linear(posterior), images(count=5).double()
    before = elbo(model, model.infer(x), x, 1000)
    _, best = fit(model, x, num_steps=100, lr=0.1, gradient_samples=10)
    after = elbo(model, best, x, 1000)
    assert (after > before + 0.5).all()
    assert (after < exact(model, x)).all()
    torch.testing.assert_close(
        importance(model, x, 1000, inference=best).log_likelihood, exact(model, x), atol=0.3, rtol=0
    )


def test_the_q_of_an_image_does_not_depend_on_the_others() -> None:
    """The ELBO has no noise here, because the decoder is constant and the KL in closed form."""
    model, x = linear("diagonal_normal"), images(count=4).double()
    model.likelihood.project.layers[0].weight.zero_()
    settings = {"num_steps": 30, "lr": 0.1, "gradient_samples": 2}
    _, together = fit(model, x, **settings)  # type: ignore[arg-type]
    _, alone = fit(model, x[2:3], **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(together.q.mean[2:3], alone.q.mean)
    torch.testing.assert_close(together.q.variance[2:3], alone.q.variance)


@pytest.mark.parametrize("prior", PRIORS)
def test_every_prior(prior: str) -> None:
    model = make_vae(prior=prior).eval()
    findings = Gaps(**(SETTINGS | {"num_steps": 40}))(make_subject(model, images()))  # type: ignore[arg-type]
    assert findings.values["amortisation_gap"] > 0 and findings.values["approximation_gap"] > -0.1  # type: ignore[operator]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_every_likelihood(likelihood: str) -> None:
    model = make_vae(likelihood=likelihood).eval()
    settings = {"num_steps": 5, "lr": 0.01, "gradient_samples": 2, "num_samples": 20, "limit": 3}
    findings = Gaps(**settings)(make_subject(model, images(likelihood)))  # type: ignore[arg-type]
    assert math.isfinite(findings.values["inference_gap"])  # type: ignore[arg-type]
    assert findings.per_image["inference_gap"].shape == (3,)


def test_a_failed_optimisation_gives_a_warning() -> None:
    model, x = linear("diagonal_normal"), images(count=20).double()
    short = Gaps(**(SETTINGS | {"num_steps": 20, "lr": 0.05}))(make_subject(model, x))  # type: ignore[arg-type]
    assert any("metrics.gaps.num_steps=80" in warning for warning in short.warnings)
    truth = best_diagonal(true_posterior(model, x))
    wild = make_vae("linear", likelihood="gaussian_fixed").double().eval().requires_grad_(False)
    wild.load_state_dict(model.state_dict())
    with_posterior(wild, lambda x: DiagonalNormal(truth.mean, truth.variance.sqrt()))
    far = Gaps(**(SETTINGS | {"num_steps": 3, "lr": 1.0}))(make_subject(wild, x))  # type: ignore[arg-type]
    assert any("worse than q(z|x)" in warning and "metrics.gaps.lr=0.1" in warning for warning in far.warnings)


@pytest.mark.parametrize(("gains", "warns"), [([0.3, 0.5], True), ([0.05, 0.25], False)])
def test_a_gain_of_the_second_half_counts_from_twice_its_error(
    monkeypatch: pytest.MonkeyPatch, gains: list[float], warns: bool
) -> None:
    """0.4 +- 0.1 and 0.15 +- 0.1 nats, both above the standard error of the amortisation gap, which is 0."""
    early, best = torch.tensor(gains), torch.zeros(2)
    model = make_vae("linear").eval()

    def given_elbo(model: Model, inference: object, x: Tensor, num_samples: int) -> Tensor:
        return -early if inference == "early" else best if inference == "best" else best - 1

    monkeypatch.setattr(gaps, "fit", lambda *_, **__: ("early", "best"))
    monkeypatch.setattr(gaps, "elbo", given_elbo)
    monkeypatch.setattr(gaps, "importance", lambda *_, **__: Importance(best, best, None, {}, None))
    findings = Gaps(**SETTINGS)(make_subject(model, images(count=2)))  # type: ignore[arg-type]
    assert findings.values["gaps_second_half"] == pytest.approx(sum(gains) / 2)
    assert any("q* has not converged" in warning for warning in findings.warnings) == warns


def test_invalid_options_and_models_without_a_density() -> None:
    with pytest.raises(NotApplicable, match="no log q"):
        Gaps(**SETTINGS)(make_subject(make_vae(posterior="deterministic"), images()))  # type: ignore[arg-type]
    for key in SETTINGS:
        with pytest.raises(ConfigError, match=f"{key}=0"):
            Gaps(**(SETTINGS | {key: 0}))  # type: ignore[arg-type]
    assert set(POSTERIORS) - set(DENSITIES) == {"deterministic"}
