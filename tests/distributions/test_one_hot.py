"""One-hot codes: their probabilities, KLs, relaxed samples, and runs that use them."""

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
from torch.nn import functional

import nelbo
from nelbo.distributions import OneHots, RelaxedOneHot, log_prob_at_sample, one_hot, sample_with_density
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
    """Return all one-hot codes, (K^N, N, K)."""
    return torch.eye(classes)[torch.tensor(list(itertools.product(range(classes), repeat=variables)))]


def test_probabilities_of_all_codes_sum_to_one_and_are_products() -> None:
    logits = 3 * torch.randn(2, VARIABLES, CLASSES)
    codes = all_codes(VARIABLES, CLASSES)
    log_p = OneHots(logits).log_prob(codes.unsqueeze(1))
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(2))
    expected = torch.ones(2)
    for variable, chosen in enumerate((3, 0, 2)):
        expected *= logits[:, variable].softmax(-1)[:, chosen]
    torch.testing.assert_close(log_p[3 * 16 + 0 * 4 + 2].exp(), expected)
    assert OneHots(torch.tensor([[0.0, -math.inf]])).log_prob(torch.tensor([[1.0, 0.0]])) == 0


def test_nan_logits_give_nan_codes_and_nan_probabilities() -> None:
    """Only codes with invalid logits are NaN. No error is raised, so that training can report the cause."""
    logits = torch.randn(500, VARIABLES, CLASSES)
    invalid = logits.clone()
    invalid[0, 1, 2] = math.nan
    invalid[1, 0, 0] = math.inf
    for p in (OneHots(invalid), relaxed(invalid, 0.5), relaxed(invalid, 0.5, straight_through=True).expand((500,))):
        samples = p.rsample() if isinstance(p, RelaxedOneHot) else p.sample()
        assert samples[:2].isnan().any((1, 2)).all() and samples[2:].isfinite().all()
        assert kl_divergence(p, OneHots(logits))[:2].isnan().all()
    codes = OneHots(invalid).sample(torch.Size((4,)))
    log_p = OneHots(logits).log_prob(codes)
    assert log_p[:, :2].isnan().all() and log_p[:, 2:].isfinite().all()
    frequencies = OneHots(logits[:1]).sample(torch.Size((20_000,))).mean(0)
    assert (frequencies - logits[:1].softmax(-1)).abs().max() < 5 * 0.5 / math.sqrt(20_000)


def test_codes_are_those_of_torch() -> None:
    classes = torch.randint(CLASSES, (5, VARIABLES))
    assert torch.equal(one_hot(classes, CLASSES, torch.zeros(())), functional.one_hot(classes, CLASSES).float())


def test_probabilities_at_samples_are_checked_only_if_samples_may_be_no_codes() -> None:
    p, logits = OneHots(torch.randn(VARIABLES, CLASSES)), torch.randn(5, VARIABLES, CLASSES)
    for q in (OneHots(logits), relaxed(logits, 0.5, straight_through=True)):
        z, _ = sample_with_density(q, 2)
        assert torch.equal(log_prob_at_sample(p, z, q), p.log_prob(z))
    q = relaxed(logits, 0.5)
    z, _ = sample_with_density(q, 2)
    with pytest.raises(ValueError, match="log_prob needs one-hot codes"):
        log_prob_at_sample(p, z, q)
    for straight_through in (False, True):
        q = relaxed(logits, 0.5, straight_through=straight_through)
        with pytest.raises(NotImplementedError, match="no importance weight"):
            log_prob_at_sample(q, z, q)


@pytest.mark.parametrize("value", [[[0.9, 0.1]], [[1.0, 1.0]], [[0.0, 0.0]], [[2.0, -1.0]]])
def test_log_prob_of_other_than_one_hot_codes_raises(value: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="log_prob needs one-hot codes"):
        OneHots(torch.zeros(1, 2)).log_prob(torch.tensor(value))
    with pytest.raises(NotImplementedError, match="no importance weight"):
        relaxed(torch.zeros(1, 2), 1.0).log_prob(torch.tensor(value))


def test_kl_is_the_sum_over_variables_and_classes_for_relaxed_samples_too() -> None:
    q_logits, p_logits = torch.randn(5, VARIABLES, CLASSES), torch.randn(VARIABLES, CLASSES)
    expected = torch.zeros(5, VARIABLES)
    q, p = q_logits.softmax(-1), p_logits.softmax(-1)
    for variable, k in itertools.product(range(VARIABLES), range(CLASSES)):
        expected[:, variable] += q[:, variable, k] * (q[:, variable, k] / p[variable, k]).log()
    for distribution in (OneHots(q_logits), relaxed(q_logits, 0.5)):
        latent = Latent(distribution, OneHots(p_logits), torch.zeros(2, 5, VARIABLES, CLASSES))
        torch.testing.assert_close(latent.unit_kl, expected)
        torch.testing.assert_close(latent.kl, expected.sum(-1).expand(2, 5))


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


def test_largest_elements_of_relaxed_samples_follow_the_class_probabilities() -> None:
    """This is the Gumbel-max trick; it holds at every temperature."""
    logits, count = torch.tensor([[1.0, 0.0, -1.0, -3.0]]), 100_000
    probability = logits.softmax(-1)
    for temperature in (0.1, 0.67, 5.0):
        z = relaxed(logits, temperature).rsample(torch.Size((count,)))
        torch.testing.assert_close(z.sum(-1), torch.ones(count, 1))
        frequency = torch.nn.functional.one_hot(z.argmax(-1), 4).double().mean(0)
        assert ((frequency - probability).abs() < 4 * (probability * (1 - probability) / count).sqrt()).all(), (
            temperature
        )


def test_relaxed_samples_are_nearly_one_hot_if_cold_and_nearly_uniform_if_hot() -> None:
    logits = torch.randn(1000, 1, 4)
    cold, hot = (relaxed(logits, temperature).rsample() for temperature in (0.01, 1000.0))
    assert (cold.max(-1).values > 0.99).float().mean() > 0.95
    assert (hot - 0.25).abs().max() < 0.02


def test_straight_through_samples_are_one_hot_with_the_gradient_of_relaxed_ones() -> None:
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


def test_head_relaxes_samples_in_training_and_schedules_the_temperature() -> None:
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
def test_invalid_options_raise(key: str, value: object) -> None:
    options: dict[str, object] = {"classes": 3, "temperature": 0.67, "straight_through": False, key: value}
    with pytest.raises(ConfigError, match=f"^{key}={value}: "):
        CategoricalPosterior((6,), 2, **options)  # type: ignore[arg-type]


def test_iwae_rejects_classes_and_free_bits_per_unit_accepts_them() -> None:
    model = make_vae(posterior="categorical", prior="categorical", likelihood="bernoulli").eval()
    trace = model.trace(images("bernoulli"), 2)
    with pytest.raises(ConfigError, match="^objective=iwae: one-hot samples have no reparameterised density"):
        IWAE(num_samples=2).check(trace)
    FreeBits(beta=1.0, free_bits=0.1, per="unit", num_samples=1).check(trace)


def test_priors_reject_latents_of_another_kind() -> None:
    with pytest.raises(
        ConfigError, match="^prior=standard_normal: is a prior over vectors, but the latents are one-hot codes"
    ):
        StandardNormal((2, 3), (1, 2, 2))
    with pytest.raises(
        ConfigError, match="^prior=categorical: is a prior over one-hot codes, but the latents are vectors"
    ):
        Categorical((2,), (1, 2, 2))


def small_model() -> VAE:
    """Return a model with two variables of three classes and random parameters."""
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


def test_importance_sampling_estimates_the_sum_over_all_codes() -> None:
    model, x, samples = small_model().double().eval(), images("bernoulli", 4, (1, 2, 2)).double(), 20_000
    codes = all_codes(2, 3).double().unsqueeze(1).expand(-1, 4, -1, -1)
    with torch.no_grad():
        exact = model.log_joint(x, [codes]).logsumexp(0)
        weights = (model.trace(x, samples).log_weight - exact).exp()  # relative to p(x): the mean is 1
        estimate = log_likelihood(model, x, samples)
    error = weights.std(0) / math.sqrt(samples)
    assert (error < 0.05).all() and ((weights.mean(0) - 1).abs() < 4 * error).all()
    assert ((estimate - exact).abs() < 4 * error).all()


def test_gradient_of_cold_relaxed_samples_is_close_to_the_exact_gradient() -> None:
    """The exact ELBO is a sum over all codes. The bias of relaxed samples decreases with the temperature."""
    model, x = small_model().double(), images("bernoulli", 4, (1, 2, 2)).double()
    weights = list(model.encoder.parameters()) + list(model.posterior.parameters())
    codes = all_codes(2, 3).double().unsqueeze(1)
    q = model.eval().encode(x)
    log_q, log_px = q.log_prob(codes), model.decode(codes.expand(-1, 4, -1, -1)).log_prob(x)
    kl = (log_q.exp() * (log_q - model.prior(model.encode).log_prob(codes))).sum(0)
    exact = torch.autograd.grad(((-log_q.exp() * log_px).sum(0) + kl).mean(), weights)
    model.train().posterior.temperature.fill_(0.2)  # type: ignore[operator, union-attr]
    loss = NegativeELBO(beta=1.0, num_samples=4000)(model.trace(x, 4000), 0)
    torch.testing.assert_close(loss.terms["kl"], kl.mean().detach())
    estimate = torch.autograd.grad(loss.total, weights)
    first, second = (torch.cat([part.flatten() for part in parts]) for parts in (exact, estimate))
    assert torch.cosine_similarity(first, second, dim=0) > 0.97


def test_runs_with_categorical_latents_train_and_load(tmp_path: Path) -> None:
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
    for name, message in (
        ("iwae", "objective=iwae: one-hot samples"),
        ("standard_normal", "is a prior over vectors"),
    ):
        assert done[name].returncode == 2 and message in done[name].stderr and done[name].stderr.count("\n") == 1
