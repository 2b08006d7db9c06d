"""Codes of classes: their probabilities, their KL, and relaxed samples."""

from __future__ import annotations

import itertools
import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

import nelbo
from nelbo.distributions import OneHots, RelaxedOneHot
from nelbo.errors import ConfigError
from nelbo.evaluation.importance import log_likelihood
from nelbo.heads import Bernoulli, CategoricalPosterior
from nelbo.models import VAE
from nelbo.nets import MLP
from nelbo.objectives import IWAE, FreeBits, NegativeELBO
from nelbo.priors import Categorical, StandardNormal
from nelbo.priors.one_hot import PACE
from nelbo.schedules import Linear
from nelbo.trace import Latent
from tests.helpers.errors_of_commands import TROUBLE
from tests.helpers.factors import images, make_vae
from tests.helpers.forks import train_all

VARIABLES, CLASSES = 3, 4


def relaxed(logits: Tensor, temperature: float, *, straight_through: bool = False) -> RelaxedOneHot:
    return RelaxedOneHot(logits, torch.tensor(temperature), straight_through=straight_through)


def all_codes(variables: int, classes: int) -> Tensor:
    """(K^N, N, K)."""
    return torch.eye(classes)[torch.tensor(list(itertools.product(range(classes), repeat=variables)))]


def test_the_probabilities_of_all_codes_sum_to_one_and_are_products() -> None:
    logits = 3 * torch.randn(2, VARIABLES, CLASSES)
    codes = all_codes(VARIABLES, CLASSES)
    log_p = OneHots(logits).log_prob(codes.unsqueeze(1))
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(2))
    by_hand = torch.ones(2)
    for variable, chosen in enumerate((3, 0, 2)):
        by_hand *= logits[:, variable].softmax(-1)[:, chosen]
    torch.testing.assert_close(log_p[3 * 16 + 0 * 4 + 2].exp(), by_hand)
    assert OneHots(torch.tensor([[0.0, -math.inf]])).log_prob(torch.tensor([[1.0, 0.0]])) == 0


def test_logits_that_are_no_numbers_make_codes_and_probabilities_that_are_none() -> None:
    """Nothing is validated, so that the run's guard can say what went wrong; other codes are as they were."""
    logits = torch.randn(500, VARIABLES, CLASSES)
    broken = logits.clone()
    broken[0, 1, 2] = math.nan
    broken[1, 0, 0] = math.inf
    for p in (OneHots(broken), relaxed(broken, 0.5), relaxed(broken, 0.5, straight_through=True).expand((500,))):
        drawn = p.rsample() if isinstance(p, RelaxedOneHot) else p.sample()
        assert drawn[:2].isnan().any((1, 2)).all() and drawn[2:].isfinite().all()
        assert kl_divergence(p, OneHots(logits))[:2].isnan().all()
    codes = OneHots(broken).sample(torch.Size((4,)))
    log_p = OneHots(logits).log_prob(codes)
    assert log_p[:, :2].isnan().all() and log_p[:, 2:].isfinite().all()
    shares = OneHots(logits[:1]).sample(torch.Size((20_000,))).mean(0)
    assert (shares - logits[:1].softmax(-1)).abs().max() < 5 * 0.5 / math.sqrt(20_000)


@pytest.mark.parametrize("value", [[[0.9, 0.1]], [[1.0, 1.0]], [[0.0, 0.0]], [[2.0, -1.0]]])
def test_what_is_no_code_has_no_probability(value: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="is that of one-hot codes"):
        OneHots(torch.zeros(1, 2)).log_prob(torch.tensor(value))
    with pytest.raises(NotImplementedError, match="no importance weight"):
        relaxed(torch.zeros(1, 2), 1.0).log_prob(torch.tensor(value))


def test_the_kl_is_the_sum_over_variables_and_classes_in_training_too() -> None:
    q_logits, p_logits = torch.randn(5, VARIABLES, CLASSES), torch.randn(VARIABLES, CLASSES)
    by_hand = torch.zeros(5, VARIABLES)
    q, p = q_logits.softmax(-1), p_logits.softmax(-1)
    for variable, k in itertools.product(range(VARIABLES), range(CLASSES)):
        by_hand[:, variable] += q[:, variable, k] * (q[:, variable, k] / p[variable, k]).log()
    for distribution in (OneHots(q_logits), relaxed(q_logits, 0.5)):
        latent = Latent(distribution, OneHots(p_logits), torch.zeros(2, 5, VARIABLES, CLASSES))
        torch.testing.assert_close(latent.unit_kl, by_hand)
        torch.testing.assert_close(latent.kl, by_hand.sum(-1).expand(2, 5))


@pytest.mark.parametrize("opposite", [False, True])
def test_extreme_logits_have_finite_kls_probabilities_and_gradients(opposite: bool) -> None:
    q_logits = torch.tensor([[100.0, -100.0, -100.0]], requires_grad=True)
    p_logits = torch.tensor([[-100.0, 100.0, -100.0] if opposite else [100.0, -100.0, 0.0]], requires_grad=True)
    q, p = relaxed(q_logits, 0.1), OneHots(p_logits)
    kl = Latent(q, p, q.rsample(torch.Size((1,))).unsqueeze(1)).kl
    torch.testing.assert_close(kl.squeeze(), torch.tensor(200.0 if opposite else 0.0))
    (kl.sum() + p.log_prob(torch.tensor([[1.0, 0.0, 0.0]])) + q.rsample().square().sum()).backward()
    for logits in (q_logits, p_logits):
        assert logits.grad is not None and logits.grad.isfinite().all()


def test_relaxed_samples_choose_classes_as_often_as_their_probabilities() -> None:
    """The Gumbel-max trick, at every temperature."""
    logits, count = torch.tensor([[1.0, 0.0, -1.0, -3.0]]), 100_000
    share = logits.softmax(-1)
    for temperature in (0.1, 0.67, 5.0):
        z = relaxed(logits, temperature).rsample(torch.Size((count,)))
        torch.testing.assert_close(z.sum(-1), torch.ones(count, 1))
        frequency = torch.nn.functional.one_hot(z.argmax(-1), 4).double().mean(0)
        assert ((frequency - share).abs() < 4 * (share * (1 - share) / count).sqrt()).all(), temperature


def test_temperature_goes_from_codes_to_the_middle_of_the_simplex() -> None:
    logits = torch.randn(1000, 1, 4)
    cold, hot = (relaxed(logits, temperature).rsample() for temperature in (0.01, 1000.0))
    assert (cold.max(-1).values > 0.99).float().mean() > 0.95
    assert (hot - 0.25).abs().max() < 0.02


def test_straight_through_is_one_hot_with_the_gradient_of_the_relaxed_sample() -> None:
    logits, weight = torch.randn(50, 2, 4, requires_grad=True), torch.randn(50, 2, 4)
    gradients, samples = [], []
    for straight_through in (False, True):
        torch.manual_seed(1)
        z = relaxed(logits, 0.5, straight_through=straight_through).rsample()
        (gradient,) = torch.autograd.grad((weight * z).sum(), logits)
        gradients.append(gradient)
        samples.append(z.detach())
    assert torch.equal(samples[1], torch.nn.functional.one_hot(samples[0].argmax(-1), 4).float())
    assert torch.equal(*gradients) and gradients[0].any()


def test_the_head_relaxes_in_training_and_its_temperature_follows_a_schedule() -> None:
    head = CategoricalPosterior(
        (6,), 2, classes=3, temperature=Linear(steps=10, start=1.0, end=0.5), straight_through=False
    )
    q = head(torch.randn(4, 6))
    assert isinstance(q, RelaxedOneHot) and q.has_rsample and q.temperature == 1
    assert head.advance(5) == {"temperature": 0.75} and head(torch.randn(4, 6)).temperature == 0.75
    hard = head.eval()(torch.randn(4, 6))
    assert not isinstance(hard, RelaxedOneHot) and not hard.has_rsample and hard.event_shape == (2, 3)


@pytest.mark.parametrize(
    ("key", "value"), [("classes", 1), ("classes", 2.5), ("temperature", 0), ("straight_through", "yes")]
)
def test_bad_options_are_named(key: str, value: object) -> None:
    options: dict[str, object] = {"classes": 3, "temperature": 0.67, "straight_through": False, key: value}
    with pytest.raises(ConfigError, match=f"^{key}={value}: "):
        CategoricalPosterior((6,), 2, **options)  # type: ignore[arg-type]


def test_bounds_of_several_samples_are_refused_and_kls_of_units_are_not() -> None:
    model = make_vae(posterior="categorical", prior="categorical", likelihood="bernoulli").eval()
    trace = model.trace(images("bernoulli"), 2)
    with pytest.raises(ConfigError, match="^objective=iwae: one-hot samples have no reparameterised density"):
        IWAE(num_samples=2).check(trace)
    FreeBits(beta=1.0, free_bits=0.1, per="unit", num_samples=1).check(trace)


def test_a_prior_over_vectors_is_refused() -> None:
    with pytest.raises(ConfigError, match="^prior=standard_normal: is over vectors, and z are one-hot codes"):
        StandardNormal((2, 3), (1, 2, 2))
    with pytest.raises(ConfigError, match="^prior=categorical: is over one-hot codes, and z are vectors"):
        Categorical((2,), (1, 2, 2))


def tiny() -> VAE:
    """Two variables of three classes, away from the start."""
    model = VAE(
        shape=(1, 2, 2),
        latent_dim=2,
        encoder=partial(MLP, hidden=[5], activation="Tanh"),
        posterior=partial(CategoricalPosterior, classes=3, temperature=0.67, straight_through=False),
        prior=Categorical,
        decoder=partial(MLP, hidden=[5], activation="Tanh"),
        likelihood=Bernoulli,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn_like(parameter))
        model.prior.logits.mul_(1 / PACE)  # type: ignore[operator, union-attr]
    return model


def test_importance_weighting_gives_the_sum_over_all_codes() -> None:
    model, x, samples = tiny().double().eval(), images("bernoulli", 4, (1, 2, 2)).double(), 20_000
    codes = all_codes(2, 3).double().unsqueeze(1).expand(-1, 4, -1, -1)
    with torch.no_grad():
        exact = model.log_joint(x, [codes]).logsumexp(0)
        weights = (model.trace(x, samples).log_weight - exact).exp()  # their mean is 1
        estimate = log_likelihood(model, x, samples)
    error = weights.std(0) / math.sqrt(samples)
    assert (error < 0.05).all() and ((weights.mean(0) - 1).abs() < 4 * error).all()
    assert ((estimate - exact).abs() < 4 * error).all()


def test_the_gradient_of_cold_relaxed_samples_points_where_the_exact_one_does() -> None:
    """The exact ELBO is a sum over all codes; the relaxed one has a bias that falls with the temperature."""
    model, x = tiny().double(), images("bernoulli", 4, (1, 2, 2)).double()
    weights = list(model.encoder.parameters()) + list(model.posterior.parameters())
    codes = all_codes(2, 3).double().unsqueeze(1)
    q = model.eval().encode(x)
    log_q, log_px = q.log_prob(codes), model.decode(codes.expand(-1, 4, -1, -1)).log_prob(x)
    kl = (log_q.exp() * (log_q - model.prior(model.encode).log_prob(codes))).sum(0)
    exact = torch.autograd.grad(((-log_q.exp() * log_px).sum(0) + kl).mean(), weights)
    model.train().posterior.temperature.fill_(0.2)  # type: ignore[operator, union-attr]
    loss = NegativeELBO(beta=1.0, num_samples=4000)(model.trace(x, 4000), 0)
    torch.testing.assert_close(loss.terms["kl"], kl.mean().detach())
    found = torch.autograd.grad(loss.total, weights)
    first, second = (torch.cat([part.flatten() for part in parts]) for parts in (exact, found))
    assert torch.cosine_similarity(first, second, dim=0) > 0.97


def test_runs_with_classes_train_and_load(tmp_path: Path) -> None:
    common = ["data=digits", "trainer=smoke", "threads=1", "model.latent_dim=5"]
    runs = {
        "categorical": ["model=mlp_vae", "posterior=categorical", "prior=categorical"],
        "uniform": ["posterior=categorical", "prior=uniform", "model.posterior.straight_through=true"],
        "iwae": ["posterior=categorical", "prior=uniform", "objective=iwae"],
        "standard_normal": ["posterior=categorical"],
    }
    done = train_all(
        {name: [*parts, *common, f"hydra.run.dir={tmp_path / name}"] for name, parts in runs.items()}, tmp_path
    )
    for name in ("categorical", "uniform"):
        assert done[name].returncode == 0, done[name].stderr
        assert not [word for word in TROUBLE if word in done[name].stderr.lower()], done[name].stderr
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert math.isfinite(metrics["test/nelbo"]) and 1 < metrics["test/code_perplexity"] <= 10
        assert nelbo.load(tmp_path / name).generate(2).mean.shape == (2, 1, 8, 8)
    for name, said in (("iwae", "objective=iwae: one-hot samples"), ("standard_normal", "is over vectors")):
        assert done[name].returncode == 2 and said in done[name].stderr and done[name].stderr.count("\n") == 1
