"""Mutual information and KL(q(z) || p(z)) against closed forms and explicit sums."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Laplace, Normal

from nelbo.distributions import DiagonalNormal, FullNormal, StandardNormal, sample_with_density
from nelbo.errors import ConfigError
from nelbo.evaluation import Information
from nelbo.evaluation.measure import Findings, NotApplicable
from nelbo.evaluation.processes import Processes
from nelbo.heads.posterior import LOG_SCALE_BOUND
from nelbo.metrics import MutualInformation
from nelbo.metrics.information import Estimates, centred_log_densities, sum_densities
from nelbo.models import VAE
from nelbo.trace import Latent, Trace
from tests.helpers.factors import LATENT_DIM, POSTERIORS, SHAPE, images, make_vae
from tests.helpers.subjects import make_subject

DENSITIES = [name for name in POSTERIORS if name != "deterministic"]


def estimates(loc: Tensor, scale: Tensor, chunk: int = 64) -> Estimates:
    """Return estimates from one code of each N(loc, scale^2), with the distributions in chunks."""
    z = DiagonalNormal(loc, scale).rsample()
    own = torch.arange(len(z))
    parts = [
        sum_densities(DiagonalNormal(loc[start : start + chunk], scale[start : start + chunk]), z, own - start)
        for start in range(0, len(z), chunk)
    ]
    under_own, others = torch.stack(parts).logsumexp(dim=0)
    return Estimates(under_own, others, len(z))


def measure(model: VAE, x: Tensor, *, num_samples: int = 1, flow_limit: int = 50, **rest: object) -> Findings:
    return Information(num_samples=num_samples, limit=None, flow_limit=flow_limit)(make_subject(model, x, **rest))


def number(findings: Findings, key: str) -> float:
    value = findings.values[key]
    assert isinstance(value, float)
    return value


def test_separated_posteriors_identify_the_image() -> None:
    result = estimates(100 * torch.arange(200.0).unsqueeze(1), torch.ones(200, 1))
    torch.testing.assert_close(result.lower, torch.full((200,), math.log(200)).double())
    assert result.upper.min() > 1000


def test_equal_posteriors_have_no_information() -> None:
    result = estimates(torch.full((200, 3), 0.7), torch.full((200, 3), 0.4))
    assert result.lower.abs().max() < 1e-9 and result.upper.abs().max() < 1e-9


@pytest.mark.parametrize("ratio", [0.5, 2.0])
def test_the_bounds_contain_the_information_of_gaussians(ratio: float) -> None:
    """x ~ N(0, I), z|x ~ N(a x, s^2): I(x; z) = D/2 log(1 + a^2 / s^2). The bias of both bounds falls as 1/N."""
    s, dimensions = 0.3, 2
    truth = 0.5 * dimensions * math.log(1 + ratio**2)
    gaps = []
    for count in (20, 4000):
        repeats = 2000 // count or 1
        results = [
            estimates(ratio * s * torch.randn(count, dimensions), torch.full((count, dimensions), s))
            for _ in range(repeats)
        ]
        lower, upper = (torch.cat([getattr(result, bound) for result in results]) for bound in ("lower", "upper"))
        error = 4 * lower.std().item() / math.sqrt(len(lower))
        assert lower.mean() < truth + error and upper.mean() > truth - error
        assert lower.mean() < upper.mean()
        gaps.append((upper.mean() - lower.mean()).item())
    assert gaps[1] < 0.05 and gaps[1] < gaps[0] / 10
    assert abs(lower.mean() - truth) < error + gaps[1]


@pytest.mark.parametrize("kind", ["diagonal", "full", "laplace"])
def test_densities_of_all_pairs_match_those_of_single_pairs(kind: str) -> None:
    """Narrow posteriors far from the origin, at which the matrix products would cancel in float32."""
    loc, scale = 50 + torch.randn(30, 4), (4 * torch.randn(30, 4) - 4).clamp(min=-LOG_SCALE_BOUND).exp()
    factor = torch.diag_embed(scale) + 0.1 * torch.randn(30, 4, 4).tril(-1)
    q = {
        "diagonal": DiagonalNormal(loc, scale),
        "full": FullNormal(loc, factor),
        "laplace": Independent(Laplace(loc, scale), 1),
    }[kind]
    z = q.sample((2,)).flatten(0, 1)
    naive = {
        "diagonal": Independent(Normal(loc.double(), scale.double()), 1),
        "full": torch.distributions.MultivariateNormal(loc.double(), scale_tril=factor.double()),
        "laplace": Independent(Laplace(loc.double(), scale.double()), 1),
    }[kind].log_prob(z.double().unsqueeze(1))
    log_q = centred_log_densities(q, z)
    assert log_q.shape == (60, 30)
    torch.testing.assert_close(log_q.double(), naive, rtol=1e-5, atol=1e-4)
    own = torch.arange(60) % 30  # codes near the mean of their own q are the least accurate
    torch.testing.assert_close(
        log_q[torch.arange(60), own].double(), naive[torch.arange(60), own], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("posterior", DENSITIES)
def test_chunked_sums_match_the_full_matrix(posterior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few codes at a time, in two parts of the distributions, with two codes per image."""
    monkeypatch.setattr("nelbo.metrics.information.ELEMENTS", 60)
    model, x = make_vae(posterior=posterior), images(count=9)
    own = torch.arange(9).repeat(2)
    with torch.no_grad():
        z = sample_with_density(model.encode(x), 2)[0].flatten(0, 1)
        parts = [sum_densities(model.encode(part), z, own - start) for start, part in ((0, x[:5]), (5, x[5:]))]
        matrix = torch.stack([torch.cat([model.encode(one).log_prob(code[None]) for one in x.split(1)]) for code in z])
    is_own = torch.arange(9) == own.unsqueeze(1)
    naive = torch.stack([matrix[is_own], matrix.masked_fill(is_own, -math.inf).logsumexp(dim=1)]).double()
    torch.testing.assert_close(torch.stack(parts).logsumexp(dim=0), naive, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("posterior", DENSITIES)
@pytest.mark.parametrize("prior", ["standard_normal", "mixture"])
def test_the_rate_is_the_sum_of_information_and_marginal_kl(posterior: str, prior: str) -> None:
    findings = measure(make_vae(posterior=posterior, prior=prior), images(count=50), num_samples=20)
    mutual, marginal, rate = (
        number(findings, key) for key in ("mutual_information", "marginal_kl", "information_rate")
    )
    spread = (
        findings.per_image["mutual_information"]
        + findings.per_image["marginal_kl"]
        - findings.per_image["information_rate"]
    )
    assert abs(mutual + marginal - rate) < 4 * spread.std().item() / math.sqrt(50) + 1e-5
    assert 0 < mutual < number(findings, "mutual_information_limit") == math.log(50)
    assert mutual < number(findings, "mutual_information_upper")


def test_a_collapsed_posterior_has_only_a_marginal_kl() -> None:
    model = make_vae()
    with torch.no_grad():
        for parameter in model.posterior.parameters():
            parameter.zero_()
        bias = model.posterior.project.layers[-1].bias  # type: ignore[union-attr, index]
        bias[:LATENT_DIM], bias[LATENT_DIM:] = 0.5, -0.3  # type: ignore[index]
        q = model.encode(images(count=1))
        closed = torch.distributions.kl_divergence(q, StandardNormal(torch.zeros(LATENT_DIM))).item()
    findings = measure(model, images(count=400), num_samples=10)
    assert abs(number(findings, "mutual_information")) < 1e-6
    assert abs(number(findings, "marginal_kl") - closed) < 4 * number(findings, "marginal_kl_se")
    assert number(findings, "information_rate") == pytest.approx(closed, rel=1e-5)


def test_saturation_gives_a_warning() -> None:
    model, x = make_vae(), images(count=50)
    assert not measure(model, x).warnings
    with torch.no_grad():
        model.posterior.project.layers[-1].weight[:LATENT_DIM] *= 1000  # type: ignore[union-attr, index]
    (warning,) = measure(model, x).warnings
    assert warning.startswith("mutual_information is saturated: 3.91 of at most log 50 = 3.91 nats")


def test_flows_use_fewer_images_and_give_a_warning() -> None:
    findings = measure(make_vae(posterior="flow_coupling"), images(count=30), flow_limit=10)
    assert findings.values["information_images"] == 10 == len(findings.per_image["mutual_information"])
    assert findings.values["mutual_information_limit"] == math.log(10)
    assert "on 10 of 30 images" in findings.warnings[0]


def test_a_limit_sets_the_number_of_images() -> None:
    subject = make_subject(make_vae(), images(count=30))
    findings = Information(num_samples=1, limit=12, flow_limit=5)(subject)
    assert findings.values["information_images"] == 12 == len(findings.per_image["marginal_kl"])


def test_the_batch_size_changes_only_the_noise() -> None:
    """Blocks end where batches do; with separated posteriors the result is the same for every batch size."""
    model, x = make_vae(), images(count=40)
    with torch.no_grad():
        model.posterior.project.layers[-1].weight[:LATENT_DIM] *= 1e5  # type: ignore[union-attr, index]
    for size in (1, 7, 40):
        assert number(measure(model, x, batch_size=size), "mutual_information") == pytest.approx(math.log(40))


def test_the_metric_equals_the_measure() -> None:
    """On the same codes, in any batches."""
    model, x = make_vae(), images(count=60)
    with torch.no_grad():
        model.posterior.project.layers[-1].weight[:LATENT_DIM] *= 10  # type: ignore[union-attr, index]
    subject = make_subject(model, x, batch_size=60)
    measured = number(Information(num_samples=2, limit=None, flow_limit=1)(subject), "mutual_information")
    with torch.no_grad(), subject.random_state("information: codes", 0):
        q = model.encode(x)
        z, _ = sample_with_density(q, 2)
    assert isinstance(q, DiagonalNormal)
    for sizes in ([60], [25, 25, 10], [1] * 60):
        metric = MutualInformation()
        for part in torch.arange(60).split(sizes):
            latent = Latent(
                DiagonalNormal(q.loc[part], q.scale[part]), StandardNormal(torch.zeros(LATENT_DIM)), z[:, part]
            )
            metric.update(Trace(x[part], model.decode(latent.z), (latent,)))
        assert metric.compute().item() == pytest.approx(measured, rel=1e-6)
    assert 0.1 < measured < math.log(60)


def test_the_metric_applies_to_diagonal_normal_posteriors_only() -> None:
    for posterior in POSTERIORS:
        trace = make_vae(posterior=posterior).trace(images())
        assert MutualInformation.applies(trace) == (posterior in ("diagonal_normal", "residual_normal"))


class Replayed(Processes):
    """A process whose exchanges are recorded, or, as one of two, replayed from the record of a single process."""

    def __init__(self, rank: int, count: int, calls: list[list[Tensor]]) -> None:
        super().__init__(rank, count)
        object.__setattr__(self, "calls", calls)

    def join(self, mine: list[Tensor], total: int) -> list[Tensor]:
        """Return the parts of all processes, after checking this process's own against the record."""
        calls: list[list[Tensor]] = self.calls  # type: ignore[attr-defined]
        if self.count == 1:
            calls.append(mine)
            return mine
        whole = calls.pop(0)
        assert len(whole) == total > len(mine)
        assert all(torch.equal(*pair) for pair in zip(mine, whole[self.rank :: 2], strict=True))
        return whole

    def same(self, value: Any) -> Any:
        """Return the value of the first process, which is this one's."""
        return value


def test_several_processes_give_the_values_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nelbo.evaluation.pairs.BLOCK", 10)
    model, x = make_vae(), images(count=47)
    calls: list[list[Tensor]] = []
    alone = measure(model, x, batch_size=5, processes=Replayed(0, 1, calls))
    assert [len(parts) for parts in calls] == [10, 10, 10, 5]  # numbers of batches, then of blocks of two batches
    for rank in (0, 1):
        shared = measure(model, x, batch_size=5, processes=Replayed(rank, 2, list(calls)))
        assert shared.values == alone.values


def test_undefined_information_is_rejected() -> None:
    with pytest.raises(NotApplicable, match="no log q"):
        measure(make_vae(posterior="deterministic"), images())
    with pytest.raises(NotApplicable, match="one image"):
        measure(make_vae(), torch.rand(1, *SHAPE))
    with pytest.raises(ConfigError, match="num_samples=0"):
        Information(num_samples=0, limit=None, flow_limit=1)
