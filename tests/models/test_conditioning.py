"""Models that are conditioned on labels and numbers, by contracts and against closed forms.

Shapes: N examples, B batch, D latent dimensions, P pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from nelbo.errors import ConfigError
from nelbo.evaluation.conditional import ConditionalModel, NeedsCondition
from nelbo.evaluation.importance import importance
from nelbo.heads import DiagonalNormalPosterior, LearnedGaussian
from nelbo.models import VAE, Conditioning, Context, ManyRates
from nelbo.nets import MLP
from nelbo.objectives import NegativeELBO
from nelbo.priors import StandardNormal
from tests.helpers.deep_models import MODELS, make_hierarchy
from tests.helpers.factors import (
    CODE_POSTERIORS,
    CODE_PRIORS,
    LATENT_DIM,
    LIKELIHOODS,
    NETS,
    OBJECTIVES,
    POSTERIORS,
    PRIORS,
    SHAPE,
    images,
    refusal,
)

CLASSES, NUMBERS, COUNT = 3, 2, 6
KINDS = {"label": CLASSES, "size": [NUMBERS]}
LAYERS = ("modulation", "concatenation")


def conditioning(**options: Any) -> Any:
    """A factory of `Conditioning` on a label and two numbers."""
    defaults = {"names": list(KINDS), "kinds": KINDS, "embedding": None, "layers": "modulation", "prior": False}
    return partial(Conditioning, **(defaults | options))


def make(
    nets: str = "mlp",
    posterior: str = "diagonal_normal",
    prior: str = "standard_normal",
    likelihood: str = "bernoulli",
    conditional_prior: bool = False,
    **options: Any,
) -> VAE:
    """A tiny conditional VAE whose weights on the condition differ from 0."""
    encoder, decoder = NETS[nets]
    torch.manual_seed(0)
    model = VAE(
        shape=SHAPE,
        latent_dim=LATENT_DIM,
        encoder=encoder,
        posterior=(POSTERIORS | CODE_POSTERIORS)[posterior],
        prior=(PRIORS | CODE_PRIORS)[prior],
        decoder=decoder,
        likelihood=LIKELIHOODS[likelihood],
        conditioning=conditioning(prior=conditional_prior, **options),
    )
    return shaken(model)


def shaken(model: Any) -> Any:
    """The model with random changes of all parameters, those that start at 0 among them."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def context(count: int = COUNT) -> dict[str, Tensor]:
    """Labels and numbers of `count` examples."""
    return {"label": torch.arange(count) % CLASSES, "size": torch.randn(count, NUMBERS)}


def at(values: Context, index: int) -> dict[str, Tensor]:
    """The context of one example."""
    return {name: value[index] for name, value in values.items()}


PARTS = [
    ("mlp", posterior, prior, layers)
    for posterior, layers in zip(POSTERIORS | CODE_POSTERIORS, LAYERS * len(POSTERIORS), strict=False)
    for prior in ("standard_normal", "mixture", "categorical")
    if prior in PRIORS | CODE_PRIORS and refusal(posterior, prior, "none") is None
] + [(nets, "diagonal_normal", "standard_normal", layers) for nets in NETS for layers in LAYERS if nets != "linear"]


@pytest.mark.parametrize(("nets", "posterior", "prior", "layers"), PARTS)
def test_each_example_has_its_own_condition(nets: str, posterior: str, prior: str, layers: str) -> None:
    """A batch of several conditions gives each example what the model bound to its condition gives it."""
    model, x, values = make(nets, posterior, prior, layers=layers).eval(), images("bernoulli", COUNT), context()
    trace = model.trace(x, 2, values)
    assert trace.px.batch_shape == (2, COUNT) and trace.log_px.isfinite().all()
    (latent,) = trace.latents
    decoded = model.decode(latent.z, context=values)
    torch.testing.assert_close(decoded.mean, trace.px.mean)
    for index in range(COUNT):
        one = model.at(**at(values, index))
        torch.testing.assert_close(one.decode(latent.z[:, index]).mean, trace.px.mean[:, index], rtol=1e-4, atol=1e-5)
        features = one.infer(x[[index]]).features[0]
        torch.testing.assert_close(features, model.infer(x, values).features[index], rtol=1e-4, atol=1e-5)
    other = {**values, "label": (values["label"] + 1) % CLASSES}
    assert not torch.allclose(model.decode(latent.z, context=other).mean, decoded.mean)
    assert model.generate(COUNT, context=values).sample().shape == (COUNT, *SHAPE)


@pytest.mark.parametrize(("layers", "embedding"), [("modulation", None), ("concatenation", 2)])
@pytest.mark.parametrize("name", ["elbo", "iwae", "stl", "dreg", "free_bits", "beta_tc", "dip", "info", "factor"])
def test_objectives_train_every_parameter(name: str, layers: str, embedding: int | None) -> None:
    conditional = name in ("elbo", "iwae", "stl", "free_bits")
    model = make(layers=layers, embedding=embedding, conditional_prior=conditional).train()
    objective, x = OBJECTIVES[name](), images("bernoulli", COUNT)
    objective(model.trace(x, objective.num_samples, context()), 0).total.backward()
    for key, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and gradient.isfinite().all() and gradient.any(), key


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_level_of_a_hierarchy_is_conditioned(kind: str) -> None:
    torch.manual_seed(0)
    model = shaken(make_hierarchy(kind, conditioning=conditioning(prior=True))).eval()
    x, values = torch.rand(COUNT, *model.shape).round(), context()
    torch.manual_seed(1)
    trace = model.trace(x, 2, values)
    zs = [latent.z for latent in trace.latents]
    torch.testing.assert_close(model.decode(*zs, context=values).mean, trace.px.mean)
    torch.testing.assert_close(model.log_joint(x, zs, values), trace.log_px + sum(each.log_p for each in trace.latents))
    for index in range(2):
        one = model.at(**at(values, index))
        alone = [z[:, [index]] for z in zs]
        torch.testing.assert_close(one.log_prior(*alone)[:, 0], model.log_prior(*zs, context=values)[:, index])
    samples = []
    for label in range(2):
        torch.manual_seed(2)
        samples.append(model.at(label=label, size=torch.zeros(NUMBERS)).sample(4))
    assert all(not torch.allclose(*level) for level in zip(*samples, strict=True))
    trace.kl.mean().backward()
    parameter = model.conditioning.prior.weight
    assert parameter.grad is not None and parameter.grad.any()


def test_the_prior_of_a_condition_is_normal_with_its_own_mean_and_scale() -> None:
    model = make()
    assert model.top_prior(context()).batch_shape == ()
    model = VAE(
        shape=SHAPE,
        latent_dim=LATENT_DIM,
        encoder=NETS["mlp"][0],
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        decoder=NETS["mlp"][1],
        likelihood=LIKELIHOODS["bernoulli"],
        conditioning=conditioning(prior=True),
    )
    values = context()
    p = model.top_prior(values)
    torch.testing.assert_close(p.mean, torch.zeros(COUNT, LATENT_DIM))  # it starts as N(0, I)
    torch.testing.assert_close(p.stddev, torch.ones(COUNT, LATENT_DIM))
    shaken(model)
    p, trace = model.top_prior(values), model.trace(images("bernoulli", COUNT), 1, values)
    assert model.conditioning is not None and model.conditioning.prior is not None
    shift, log_scale = model.conditioning.prior(model.conditioning.condition(values)).chunk(2, dim=-1)
    torch.testing.assert_close(p.mean, shift)
    torch.testing.assert_close(p.stddev, log_scale.exp())
    q = torch.distributions.Normal(trace.latents[0].q.mean, trace.latents[0].q.stddev)
    exact = kl_divergence(q, torch.distributions.Normal(shift, log_scale.exp())).sum(-1)
    torch.testing.assert_close(trace.kl[0], exact)
    torch.manual_seed(0)
    drawn = model.at(**at(values, 0)).sample(20_000)[0]
    assert (drawn.mean(0) - shift[0]).abs().max() < 4 * log_scale.exp().max() / math.sqrt(20_000)


def test_unknown_labels_and_standardised_numbers() -> None:
    model = make()
    assert model.conditioning is not None
    values = {"label": torch.tensor([-1, 1]), "size": torch.tensor([[2.0, 5.0], [4.0, 5.0]])}
    model.conditioning.initialize(values)
    expected = torch.tensor([[0.0, 0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(model.conditioning.condition(values), expected)
    other = make()
    other.load_state_dict(model.state_dict())
    assert other.conditioning is not None
    torch.testing.assert_close(other.conditioning.condition(values), expected)


def test_copies_are_independent() -> None:
    model, values = make().eval(), context()
    x = images("bernoulli", COUNT)
    before = model.encode(x, values).mean
    other = copy.deepcopy(model)
    shaken(other)
    torch.testing.assert_close(model.encode(x, values).mean, before)
    assert not torch.allclose(other.encode(x, values).mean, before)


def test_wrong_conditions_are_named() -> None:
    model = make()
    for setting, message in (
        ({"label": 3}, "label=3: must be at most 2"),
        ({"label": "cat"}, "label=cat: must be a whole number"),
        ({"size": [1.0]}, "must have 2 numbers"),
        ({"colour": 1}, "context=colour: is not among what this model is conditioned on: label, size"),
    ):
        with pytest.raises(ConfigError, match=message):
            model.at(**setting)
    with pytest.raises(ValueError, match="conditioned on size, which the context lacks"):
        model.encode(images("bernoulli", COUNT), {"label": torch.zeros(COUNT, dtype=torch.int64)})
    x = images("bernoulli", COUNT)
    for changed, message in (
        ({"label": torch.full((COUNT,), 3)}, "label must be from 0 to 2, or -1 if unknown, not 3"),
        ({"size": torch.zeros(COUNT, 1)}, "size must have 2 numbers for each example, not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.encode(x, {**context(), **changed})
    with pytest.raises(ValueError, match="conditioned on label, size, which the context lacks"):
        model.generate(3)
    with pytest.raises(ValueError, match="label is bound to the values of 6 examples, not of 2"):
        model.given(context()).encode(images("bernoulli", 2))


REFUSED = [
    ({"layers": "gates"}, {}, "layers=gates: must be one of"),
    ({"names": []}, {}, "names=.*must be a list of different names"),
    ({"kinds": None}, {}, "kinds=null: needs the number of classes"),
    ({"embedding": 0}, {}, "embedding=0: must be"),
    ({}, {"prior": PRIORS["vamp"]}, "prior=VampPrior: encodes each of its pseudo-inputs for every condition"),
    ({"prior": True}, {"prior": PRIORS["mixture"]}, "prior=Mixture: is not conditioned"),
    ({}, {"rates": partial(ManyRates, lowest=0.1, highest=1.0)}, "does not go with rates"),
    ({}, {"encoder": NETS["linear"][0], "decoder": NETS["linear"][1]}, "has no hidden layer to modulate"),
]


@pytest.mark.parametrize(("options", "parts", "message"), REFUSED)
def test_what_does_not_go_with_a_condition_is_refused(options: Any, parts: Any, message: str) -> None:
    encoder, decoder = NETS["mlp"]
    defaults = {"encoder": encoder, "decoder": decoder, "posterior": DiagonalNormalPosterior, "prior": StandardNormal}
    with pytest.raises(ConfigError, match=message):
        VAE(
            shape=SHAPE,
            latent_dim=LATENT_DIM,
            likelihood=LIKELIHOODS["bernoulli"],
            conditioning=conditioning(**options),
            **{**defaults, **parts},
        )


def test_a_hierarchy_takes_no_concatenated_condition() -> None:
    with pytest.raises(ConfigError, match="layers=concatenation: must be modulation in a model of several levels"):
        make_hierarchy("ladder", conditioning=conditioning(layers="concatenation"))


PIXELS, FACTORS, EXAMPLES = 6, 2, 200


def linear_model() -> VAE:
    """A linear VAE of images (1, 1, P), conditioned on a label; in float64."""
    torch.manual_seed(0)
    net = partial(MLP, hidden=[], activation="Identity")
    model = VAE(
        shape=(1, 1, PIXELS),
        latent_dim=FACTORS,
        encoder=net,
        posterior=DiagonalNormalPosterior,
        prior=StandardNormal,
        decoder=net,
        likelihood=LearnedGaussian,
        conditioning=conditioning(names=["label"], kinds={"label": CLASSES}, layers="concatenation"),
    )
    return model.double()


def labelled_data() -> tuple[Tensor, Tensor]:
    """Gaussian vectors (N, 1, 1, P) whose mean depends on the label, and labels (N,)."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (EXAMPLES,), generator=generator)
    means = 2 * torch.randn(CLASSES, PIXELS, generator=generator, dtype=torch.float64)
    loadings = torch.randn(FACTORS, PIXELS, generator=generator, dtype=torch.float64)
    z = torch.randn(EXAMPLES, FACTORS, generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(EXAMPLES, PIXELS, generator=generator, dtype=torch.float64)
    return (means[labels] + z @ loadings + noise)[:, None, None], labels


def marginal(model: VAE, labels: Tensor) -> MultivariateNormal:
    """p(x|y) of a linear model, N(A y + b, W W^T + sigma^2 I), batch shape (N,)."""
    zero = torch.zeros(len(labels), FACTORS, dtype=torch.float64)
    px = model.decode(zero, context={"label": labels})
    basis = torch.eye(FACTORS, dtype=torch.float64)[:, None].expand(-1, len(labels), -1)
    columns = (model.decode(basis, context={"label": labels}).mean - px.mean).flatten(2)[:, 0].T  # (P, D)
    sigma = px.base_dist.scale.flatten()[0]
    covariance = columns @ columns.T + sigma.square() * torch.eye(PIXELS, dtype=torch.float64)
    return MultivariateNormal(px.mean.flatten(1), covariance)


@pytest.fixture(scope="module")
def trained() -> VAE:
    """The linear model, trained on the labelled data."""
    model, (x, labels) = linear_model(), labelled_data()
    values, objective = {"label": labels}, NegativeELBO(beta=1.0, num_samples=16)
    model.initialize(x, values)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    for _ in range(600):
        optimizer.zero_grad()
        objective(model.trace(x, 16, values), 0).total.backward()
        optimizer.step()
        scheduler.step()
    return model.eval()


@torch.no_grad()
def test_the_optimum_is_regression_on_the_label_and_ppca_of_the_residuals(trained: VAE) -> None:
    x, labels = labelled_data()
    flat = x.flatten(1)
    means = torch.stack([flat[labels == label].mean(0) for label in range(CLASSES)])
    residuals = flat - means[labels]
    eigenvalues = torch.linalg.eigvalsh(residuals.T @ residuals / EXAMPLES).flip(0)
    sigma2 = eigenvalues[FACTORS:].mean()  # Tipping & Bishop 1999, eq. 8
    best = 0.5 * (PIXELS * math.log(2 * math.pi) + eigenvalues[:FACTORS].log().sum())
    best = best + 0.5 * ((PIXELS - FACTORS) * sigma2.log() + PIXELS)
    p = marginal(trained, labels)
    reached = -p.log_prob(flat).mean()
    torch.manual_seed(0)
    elbo = NegativeELBO(beta=1.0, num_samples=500)(trained.trace(x, 500, {"label": labels}), 0).total
    assert best <= reached < best + 0.01
    assert abs(elbo - reached) < 0.02  # q is exact: the posterior of a linear model is Gaussian
    torch.testing.assert_close(p.mean, means[labels], atol=0.03, rtol=0)


@torch.no_grad()
def test_importance_sampling_estimates_the_exact_marginal_of_each_condition(trained: VAE) -> None:
    model, (x, labels) = copy.deepcopy(trained), labelled_data()
    x, labels = x[:40], labels[:40]
    torch.manual_seed(0)
    for parameter in model.posterior.parameters():  # q is no longer exact, so the weights differ
        parameter.add_(0.01 * torch.randn_like(parameter))
    exact = marginal(model, labels).log_prob(x.flatten(1))
    result = importance(model.given({"label": labels}), x, 20_000)
    difference = result.log_likelihood - exact
    error = (1 / result.effective_samples - 1 / 20_000).sqrt()  # of log p(x|y), to first order
    assert error.min() > 0 and error.max() < 0.1
    assert (difference.abs() / error).max() < 4
    assert difference.mean().abs() < 3 * error.square().mean().sqrt() / math.sqrt(len(x))


def test_models_without_a_condition_have_none() -> None:
    plain = make_hierarchy("ladder")
    assert plain.conditioning is None and plain.context_names == ()


def test_columns_may_have_any_name() -> None:
    """Also names that a module cannot have for a part of its own."""
    kinds = {"petal.length": [1], "type": 2}
    made = Conditioning(names=list(kinds), kinds=kinds, embedding=3, layers="modulation", prior=False)
    values = {"petal.length": torch.tensor([[1.0], [3.0]]), "type": torch.tensor([0, 1])}
    made.initialize(values)
    condition = made.condition(values)
    assert condition.shape == (2, 4) and condition[:, 0].tolist() == [-1, 1]


def test_a_measure_without_conditions_is_left_out_at_any_depth() -> None:
    for model in (make(), make_hierarchy("ladder", conditioning=conditioning())):
        given = ConditionalModel(model.eval(), lambda count: context(count))
        zs = model.sample(COUNT, context=context())
        noise = torch.zeros(1, COUNT, model.noise_size)
        calls: list[Callable[[], object]] = [
            lambda given=given, zs=zs: given.decode(*zs),  # type: ignore[misc]
            lambda given=given, zs=zs, noise=noise: given.unfold(zs[0][None], noise),  # type: ignore[misc]
            lambda given=given, zs=zs: given.log_prior(*(z[None] for z in zs)),  # type: ignore[misc]
            lambda given=given, model=model: given.infer(torch.zeros(COUNT, *model.shape)),  # type: ignore[misc]
        ]
        for call in calls:
            with pytest.raises(NeedsCondition, match="needs label, size of each image"):
                call()
        with given.given_batch(context()):
            assert given.decode(*zs).mean.isfinite().all()
        assert given.generate(4).mean.shape == (4, *model.shape)
