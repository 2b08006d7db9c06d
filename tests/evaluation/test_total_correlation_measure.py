"""The KL as mutual information, total correlation and dimension-wise KL, against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from nelbo.errors import ConfigError
from nelbo.evaluation import Information, TotalCorrelation
from nelbo.evaluation.measure import Findings, NotApplicable
from nelbo.models import VAE
from nelbo.trace import Latent
from tests.helpers.codes import as_images, coded
from tests.helpers.factors import SHAPE, images, make_vae
from tests.helpers.subjects import make_subject

PARTS = ("index_code_mutual_information", "total_correlation", "dimension_wise_kl")
SCALE = 0.5
CODES = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
"""Covariance of the means of q(z|x)."""
AGGREGATE = CODES + SCALE**2 * torch.eye(2)
TRUTH = -0.5 * math.log(1 - (AGGREGATE[0, 1] / AGGREGATE[0, 0]).item() ** 2)
"""Total correlation of a Gaussian with that covariance: -1/2 log(1 - rho^2)."""


def measure(model: VAE, x: Tensor, *, num_samples: int = 1, **rest: object) -> Findings:
    return TotalCorrelation(num_samples=num_samples, limit=None)(make_subject(model, x, **rest))


def number(findings: Findings, key: str) -> float:
    value = findings.values[key]
    assert isinstance(value, float)
    return value


def gaussian(count: int) -> Findings:
    """Measure `count` images of a distribution for which q(z) is N(0, AGGREGATE)."""
    x = MultivariateNormal(torch.zeros(2), CODES).sample((count,))
    return measure(coded(2, lambda x: x, SCALE), as_images(x))


def test_codes_of_a_correlated_gaussian() -> None:
    findings = gaussian(2500)
    closed = {
        "index_code_mutual_information": 0.5 * torch.logdet(AGGREGATE / SCALE**2).item(),
        "total_correlation": TRUTH,
        "dimension_wise_kl": 2 * kl_divergence(Normal(0.0, AGGREGATE[0, 0].sqrt()), Normal(0.0, 1.0)).item(),
    }
    gap = number(findings, "total_correlation_upper") - number(findings, "total_correlation_lower")
    assert 0 < gap < 0.03
    for key, value in closed.items():
        assert abs(number(findings, key) - value) < 4 * number(findings, f"{key}_se") + gap, key
    assert not findings.warnings


def test_the_bounds_enclose_the_total_correlation_of_unseen_images() -> None:
    """In expectation, by the standard error over independent sets of 20 images."""
    runs = [gaussian(20) for _ in range(50)]
    mean, error = {}, {}
    for key in ("total_correlation_lower", "total_correlation_upper"):
        values = torch.tensor([number(run, key) for run in runs])
        mean[key], error[key] = values.mean().item(), (values.std() / math.sqrt(len(runs))).item()
    assert mean["total_correlation_lower"] < TRUTH - 4 * error["total_correlation_lower"]
    assert mean["total_correlation_upper"] > TRUTH + 4 * error["total_correlation_upper"]


GRID = torch.cartesian_prod(torch.arange(6.0), torch.arange(4.0))


@pytest.mark.parametrize(
    ("function", "truth"),
    [
        (lambda x: x, 0.0),  # all pairs of values, so the units are independent
        (lambda x: x @ torch.tensor([[1.0, 1.0], [0.0, 0.0]]), math.log(6)),  # two equal units
        # Each of three units identifies the image.
        (lambda x: torch.stack([x[:, 0] + 6 * x[:, 1]] * 3, dim=1), 2 * math.log(24)),
    ],
)
def test_codes_that_do_not_overlap_are_discrete(function: Callable[[Tensor], Tensor], truth: float) -> None:
    """Without overlap the total correlation is that of discrete variables, for every code."""
    findings = measure(coded(function(GRID).shape[1], function, 1e-3), as_images(GRID))
    values = findings.per_image["total_correlation"]
    torch.testing.assert_close(values, torch.full_like(values, truth), rtol=0, atol=1e-5)


@pytest.mark.parametrize("posterior", ["diagonal_normal", "laplace"])
@pytest.mark.parametrize("prior", ["standard_normal", "diagonal_normal"])
def test_the_parts_agree_with_their_definitions(posterior: str, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same codes, computed in small blocks of codes and of distributions."""
    monkeypatch.setattr("nelbo.evaluation.total_correlation.ELEMENTS", 60)
    monkeypatch.setattr("nelbo.evaluation.pairs.BLOCK", 8)
    model, x = make_vae(posterior=posterior, prior=prior), images(count=23)
    subject = make_subject(model, x, batch_size=4)
    measurement = TotalCorrelation(num_samples=2, limit=None)
    findings = measurement(subject)
    with torch.no_grad():
        codes = subject.map("total correlation: codes", lambda x: measurement._draw(subject, x))["z"].flatten(0, 1)
        q, p = model.encode(x), model.prior(model.encode)
        units = q.base_dist.log_prob(codes.unsqueeze(1)).double()  # (M, N, D)
        joint, own = units.sum(-1), torch.arange(23).repeat_interleave(2)
        is_own = own.unsqueeze(1) == torch.arange(23)
        with_own, marginals = joint.logsumexp(1) - math.log(23), (units.logsumexp(1) - math.log(23)).sum(-1)
        without_own = joint.masked_fill(is_own, -math.inf).logsumexp(1) - math.log(22)
        marginals_without_own = (units.masked_fill(is_own.unsqueeze(-1), -math.inf).logsumexp(1) - math.log(22)).sum(-1)
        naive = {
            "index_code_mutual_information": joint[is_own] - with_own,
            "total_correlation": with_own - marginals,
            "dimension_wise_kl": marginals - p.log_prob(codes),
            "total_correlation_lower": without_own - marginals,
            "total_correlation_upper": with_own - marginals_without_own,
        }
    for key, values in naive.items():
        torch.testing.assert_close(findings.per_image[key], values.unflatten(0, (23, 2)).mean(1), rtol=1e-4, atol=1e-5)
    assert findings.values["total_correlation_images"] == 23 and findings.values["total_correlation_samples"] == 2


def test_the_parts_sum_to_the_kl_or_else_give_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make_vae(), images(count=50)
    findings = measure(model, x, num_samples=20)
    total = torch.stack([findings.per_image[part] for part in PARTS]).sum(dim=0)
    excess = total - findings.per_image["total_correlation_rate"]
    assert abs(excess.mean().item()) < 4 * excess.std().item() / math.sqrt(50)
    assert not findings.warnings
    closed = Latent.kl.func  # type: ignore[attr-defined]
    monkeypatch.setattr(Latent, "kl", property(lambda latent: closed(latent) - 1))
    (warning,) = measure(model, x, num_samples=20).warnings
    assert warning.startswith("total_correlation: the sum of the three parts differs from the KL by +")


def test_total_correlation_and_dimension_wise_kl_sum_to_the_marginal_kl() -> None:
    model, x = make_vae(), images(count=60)
    findings = measure(model, x, num_samples=20)
    other = Information(num_samples=20, limit=None, flow_limit=1)(make_subject(model, x))
    ours = findings.per_image["total_correlation"] + findings.per_image["dimension_wise_kl"]
    for values, key in (
        (ours, "marginal_kl"),
        (findings.per_image["index_code_mutual_information"], "mutual_information"),
    ):
        difference = values - other.per_image[key]
        assert abs(difference.mean().item()) < 4 * difference.std().item() / math.sqrt(60), key


def test_codes_that_do_not_overlap_give_a_warning() -> None:
    (warning,) = measure(coded(2, lambda x: x, 1e-2), as_images(torch.randn(30, 2))).warnings
    assert warning.startswith(
        "total_correlation is that of these 30 images alone, whose codes do not overlap "
        "(mutual information 3.40 of at most log 30"
    )


def test_a_limit_selects_that_many_images() -> None:
    findings = TotalCorrelation(num_samples=1, limit=12)(make_subject(make_vae(), images(count=30)))
    assert findings.values["total_correlation_images"] == 12 == len(findings.per_image["total_correlation"])


def test_models_without_a_total_correlation() -> None:
    with pytest.raises(NotApplicable, match="no log q"):
        measure(make_vae(posterior="deterministic"), images())
    for choice in ({"posterior": "full_normal"}, {"posterior": "flow_coupling"}, {"prior": "mixture"}):
        with pytest.raises(NotApplicable, match="independent in q"):
            measure(make_vae(**choice), images())
    with pytest.raises(NotApplicable, match="one image"):
        measure(make_vae(), torch.rand(1, *SHAPE))
    with pytest.raises(ConfigError, match="num_samples=0"):
        TotalCorrelation(num_samples=0, limit=None)
