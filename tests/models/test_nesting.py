"""Nested latents with every posterior and prior that allow them, compared with models of K latents made by hand."""

from __future__ import annotations

import math
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal, NormalMixture, StandardNormal
from nelbo.errors import ConfigError
from nelbo.evaluation.refinement import fit
from nelbo.models import VAE, ManyRates
from nelbo.models.nesting import LATENT_DIM
from nelbo.objectives import IWAE, STL, DReG, NegativeELBO, Objective
from nelbo.trace import Latent, Trace
from tests.helpers.factors import CODE_POSTERIORS, CODE_PRIORS, LIKELIHOODS, NETS, POSTERIORS, PRIORS, SHAPE
from tests.helpers.largest import LargestTensor
from tests.helpers.many_settings import NESTING

D = 5
ALLOWED_POSTERIORS = ["diagonal_normal", "residual_normal", "full_normal", "laplace"]
ALLOWED_PRIORS = ["standard_normal", "diagonal_normal", "mixture", "vamp"]
ALLOWED = list(product(ALLOWED_POSTERIORS, ALLOWED_PRIORS))
COVERING = [
    (posterior, ALLOWED_PRIORS[(index + shift) % 4])
    for index, posterior in enumerate(ALLOWED_POSTERIORS)
    for shift in (0, 1)
]
"""Two pairs with each posterior and with each prior."""

AT_COUNTS = [*((*pair, 3) for pair in ALLOWED), *((*pair, count) for pair in COVERING for count in (1, D))]
"""Pairs with K."""
COUNTS = [1, 4, 2, 5, 3, 4]
"""K of each image of a batch."""


def make(posterior: str, prior: str, **rest: object) -> VAE:
    """A nested model in float64 whose parameters are all moved away from where they start."""
    torch.manual_seed(0)
    encoder, decoder = NETS["mlp"]
    arguments = {"latent_dim": D, "nesting": NESTING, **rest}
    model = VAE(
        shape=SHAPE,
        encoder=encoder,
        posterior=(POSTERIORS | CODE_POSTERIORS)[posterior],
        prior=(PRIORS | CODE_PRIORS)[prior],
        decoder=decoder,
        likelihood=LIKELIHOODS["bernoulli"],
        **arguments,  # type: ignore[arg-type]
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval()


def some_images(count: int = len(COUNTS)) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(count, *SHAPE).round().double()


def of_first(name: str, value: Tensor, count: int, posterior: str) -> Tensor:
    """What a model of the first `count` latents has of a parameter of a nested model, or of its gradient.

    Args:
        name: the name of the parameter.
        value: the parameter, or its gradient.
        count: K.
        posterior: the name of the posterior.
    """
    if name.startswith("posterior."):  # locations, raw scales, and L below its diagonal, row by row
        rows = [*range(count), *range(D, D + count)]
        below = range(2 * D, 2 * D + count * (count - 1) // 2) if posterior == "full_normal" else ()
        return value[[*rows, *below]]
    if name in ("prior.loc", "prior.log_scale"):
        return value[..., :count]
    is_first_weight = name.startswith("decoder.") and value.ndim == 2 and value.shape[1] == D
    return value[:, :count] if is_first_weight else value


def model_of_first(nested: VAE, posterior: str, prior: str, count: int) -> VAE:
    """The model of the first `count` latents, without nesting, with parameters that are cut out by hand."""
    small, values = make(posterior, prior, latent_dim=count, nesting=None), dict(nested.named_parameters())
    assert values.keys() == dict(small.named_parameters()).keys()
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            part = of_first(name, values[name], count, posterior)
            assert part.shape == parameter.shape
            parameter.copy_(part)
    return small


def at_same_noise(small: VAE, x: Tensor, z: Tensor) -> Trace:
    """The trace of a small model at the first units of samples z (S, B, D)."""
    z = z[..., : small.latent_dim]
    return Trace(x, small.decode(z), (Latent(small.encode(x), small.top_prior(), z),))


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def unit_kl_of(latent: Latent) -> Tensor | None:
    try:
        return latent.unit_kl
    except NotImplementedError:
        return None


@pytest.mark.parametrize(("posterior", "prior", "count"), AT_COUNTS)
def test_a_nested_model_at_k_is_the_model_of_its_first_k_latents(posterior: str, prior: str, count: int) -> None:
    nested, x = make(posterior, prior), some_images()
    trace = nested.at(latent_dim=count).trace(x, 4)
    expected = at_same_noise(model_of_first(nested, posterior, prior, count), x, trace.latents[0].z)
    assert_close(trace.log_px, expected.log_px)
    assert_close(trace.log_weight, expected.log_weight)
    assert_close(trace.log_q - trace.log_p, expected.log_q - expected.log_p)
    assert_close(trace.kl, expected.kl)
    assert_close(trace.kl - trace.log_px, expected.kl - expected.log_px)
    beyond = trace.latents[0].z[..., count:]
    standard = -0.5 * (beyond.square() + math.log(2 * math.pi)).sum(-1)
    assert_close(trace.log_q, expected.log_q + standard)
    assert_close(trace.log_p, expected.log_p + standard)


@pytest.mark.parametrize(("posterior", "prior", "count"), AT_COUNTS)
def test_the_kl_of_latents_beyond_k_is_exactly_zero(posterior: str, prior: str, count: int) -> None:
    nested, x = make(posterior, prior), some_images()
    (latent,) = nested.at(latent_dim=count).trace(x, 2).latents
    small = at_same_noise(model_of_first(nested, posterior, prior, count), x, latent.z).latents[0]
    found, expected = unit_kl_of(latent), unit_kl_of(small)
    factorises = posterior != "full_normal" and prior in ("standard_normal", "diagonal_normal")
    assert (found is not None) == (expected is not None) == factorises
    if found is not None and expected is not None:
        assert_close(found[:, :count], expected)
        assert (found[:, count:] == 0).all() and (found[:, :count] > 0).all()
        assert torch.equal(found, latent.element_kl)


@pytest.mark.parametrize(("posterior", "prior"), COVERING)
def test_gradients_are_those_of_the_model_of_the_first_latents(posterior: str, prior: str) -> None:
    count, nested, x = 3, make(posterior, prior), some_images()
    small, bound = model_of_first(nested, posterior, prior, count), nested.at(latent_dim=count)
    (latent,) = bound.trace(x, 2).latents
    z = latent.z.detach()
    for trace in (
        Trace(x, bound.decode(z), (Latent(latent.q, latent.p, z),)),
        at_same_noise(small, x, z),
    ):
        (trace.log_weight.square().mean() + trace.kl.mean()).backward()  # type: ignore[no-untyped-call]
    expected = {name: parameter.grad for name, parameter in small.named_parameters()}
    for name, parameter in nested.named_parameters():
        wanted = expected[name]
        assert (parameter.grad is None) == (wanted is None)
        if parameter.grad is not None and wanted is not None:
            part = of_first(name, parameter.grad, count, posterior)
            scale = wanted.abs().max().clamp(min=1)
            assert_close(part / scale, wanted / scale)
            assert_close(parameter.grad.abs().sum() / scale, part.abs().sum() / scale)  # no other latent has any


@pytest.mark.parametrize(("posterior", "prior"), ALLOWED)
def test_images_of_a_batch_have_their_own_numbers_of_latents(posterior: str, prior: str) -> None:
    nested, x = make(posterior, prior), some_images()
    trace = nested.trace(x, 3, {LATENT_DIM: torch.tensor(COUNTS)})
    z = trace.latents[0].z
    for index, count in enumerate(COUNTS):
        alone = at_same_noise(model_of_first(nested, posterior, prior, count), x[[index]], z[:, [index]])
        assert_close(trace.log_px[:, [index]], alone.log_px)
        assert_close(trace.log_weight[:, [index]], alone.log_weight)
        assert_close(trace.kl[:, [index]], alone.kl)


@pytest.mark.parametrize(("posterior", "prior"), COVERING)
def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_images(posterior: str, prior: str) -> None:
    nested, x = make(posterior, prior), some_images()
    trace = nested.trace(x, 4, {LATENT_DIM: torch.tensor(COUNTS)})
    z = trace.latents[0].z
    alone = [
        at_same_noise(model_of_first(nested, posterior, prior, count), x[[index]], z[:, [index]])
        for index, count in enumerate(COUNTS)
    ]
    objectives: list[Objective] = [
        NegativeELBO(beta=1.0, num_samples=4),
        IWAE(num_samples=4),
        STL(beta=1.0, num_samples=4),
        DReG(num_samples=4),
    ]
    for objective in objectives:
        mean = torch.stack([objective(each, 0).total for each in alone]).mean()
        assert_close(objective(trace, 0).total, mean)


def within(values: Tensor, expected: Tensor) -> bool:
    """Whether means over samples (N, ...) are within five standard errors of their expectation."""
    error = values.std(0) / math.sqrt(len(values))
    return bool(((values.mean(0) - expected).abs() < 5 * error).all())


@pytest.mark.parametrize(
    ("posterior", "prior"), [pair for pair in ALLOWED if pair[0] == "diagonal_normal" or pair[1] == "vamp"]
)
def test_samples_of_the_prior_have_its_marginal_on_the_first_latents(posterior: str, prior: str) -> None:
    nested, number = make(posterior, prior), 20_000
    counts = torch.tensor([2, 4]).repeat(number // 2)
    with torch.no_grad():
        (z,) = nested.sample(number, context={LATENT_DIM: counts})
        for count in (2, 4):
            p, drawn = model_of_first(nested, posterior, prior, count).top_prior(), z[counts == count]
            own, other = drawn[:, :count], drawn[:, count:]
            assert within(own, p.mean) and within((own - p.mean).square(), p.variance)
            log_p = p.log_prob(p.sample(torch.Size((200_000,))))
            assert within(p.log_prob(own), log_p.mean())
            assert within(other, torch.zeros(D - count)) and within(other.square(), torch.ones(D - count))
            products = (own - p.mean).unsqueeze(-1) * other.unsqueeze(-2)
            assert within(products, torch.zeros(count, D - count))
            bound = nested.at(latent_dim=count).top_prior()
            assert bound.batch_shape == () and bound.sample(torch.Size((7,))).shape == (7, D)
            if prior != "standard_normal":
                assert_close(bound.mean[:count], p.mean)
                assert_close(bound.variance[:count], p.variance)


@pytest.mark.parametrize(("posterior", "prior"), COVERING)
def test_log_prior_and_log_joint_are_those_of_the_trace(posterior: str, prior: str) -> None:
    nested, x = make(posterior, prior), some_images()
    bound, context = nested.at(latent_dim=3), {LATENT_DIM: torch.tensor(COUNTS)}
    for model, given in ((bound, {}), (nested, context)):
        trace = model.trace(x, 3, given)
        z = trace.latents[0].z
        assert_close(model.log_prior(z, context=given), trace.log_p)
        assert_close(model.log_joint(x, [z], given), trace.log_joint)
    for temperature in (0, 0.5):
        (z,) = bound.sample(6, temperature)
        assert z.shape == (6, D)
    assert bound.generate(6, 0.5).mean.shape == nested.generate(6, 1.0, context).mean.shape == (6, *SHAPE)
    changed = z.clone()
    changed[:, 3:] = 1e6
    assert torch.equal(bound.decode(changed).mean, bound.decode(z).mean)


def test_without_a_number_the_prior_is_the_one_of_all_latents() -> None:
    assert type(make("diagonal_normal", "mixture").top_prior()) is NormalMixture
    assert type(make("diagonal_normal", "vamp").top_prior()) is NormalMixture
    assert type(make("diagonal_normal", "standard_normal").at(latent_dim=2).top_prior()) is StandardNormal
    p = make("diagonal_normal", "diagonal_normal").at(latent_dim=2).top_prior()
    assert isinstance(p, DiagonalNormal) and p.loc[2:].tolist() == [0, 0, 0] and p.scale[2:].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("posterior", "prior"), COVERING)
def test_a_tiny_training_reaches_all_parameters_and_improves_the_loss(posterior: str, prior: str) -> None:
    model, x = make(posterior, prior).float().train(), some_images(32).float()
    objective, context = NegativeELBO(beta=1.0, num_samples=4), {LATENT_DIM: torch.arange(32) % D + 1}
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    objective(model.trace(x, 1, context), 0).total.backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(dim=0).all() if name == "prior.loc" else (parameter.grad != 0).any(), name

    def loss() -> float:
        torch.manual_seed(2)
        with torch.no_grad():
            return objective(model.trace(x, 20, context), 0).total.item()

    start = loss()
    for step in range(40):
        optimizer.zero_grad()
        trace = model.trace(x, 1, model.draw_context(len(x)))
        objective(trace, step).total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss() < start - 2


@pytest.mark.parametrize(("posterior", "prior"), COVERING)
def test_a_refined_posterior_is_one_of_the_first_latents(posterior: str, prior: str) -> None:
    nested, x = make(posterior, prior), some_images()
    bound = nested.at(latent_dim=2)
    _, refined = fit(bound, x, num_steps=20, lr=0.05, gradient_samples=4)
    first = bound.infer(x).q
    assert (refined.q.mean[:, :2] != first.mean[:, :2]).all()
    assert (refined.q.mean[:, 2:] == 0).all() and (refined.q.variance[:, 2:] == 1).all()
    with torch.no_grad():
        latent = bound.draw(x, refined, 3).latents[0]
        changed = latent.z.clone()
        changed[..., 2:] = torch.randn_like(changed[..., 2:])
        assert_close(latent.log_p - latent.log_q, latent.p.log_prob(changed) - latent.q.log_prob(changed))


@pytest.mark.parametrize("posterior", ["diagonal_normal", "full_normal", "laplace"])
def test_pseudo_inputs_are_encoded_once_for_all_images(posterior: str) -> None:
    nested, x, sizes = make(posterior, "vamp"), some_images(), list[int]()
    nested.encoder.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    nested.trace(x, 2, {LATENT_DIM: torch.tensor(COUNTS)})
    assert sorted(sizes) == [5, len(x)]  # five pseudo-inputs


def test_a_mixture_of_many_components_makes_no_tensor_of_pairs_and_latents() -> None:
    images, latents, components = 64, 48, 40
    prior = partial(PRIORS["mixture"], components=components)
    encoder, decoder = NETS["linear"]
    model = VAE(
        shape=(1, 2, 2),
        latent_dim=latents,
        encoder=encoder,
        posterior=POSTERIORS["diagonal_normal"],
        prior=prior,
        decoder=decoder,
        likelihood=LIKELIHOODS["bernoulli"],
        nesting=NESTING,
    )
    p, z = model.top_prior(model.draw_context(images)), torch.randn(2, images, latents, requires_grad=True)
    with LargestTensor() as largest:
        p.log_prob(z).sum().backward()
    assert largest.elements <= 2 * images * max(components, latents)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"posterior": "flow_coupling"},
            "posterior=FlowPosterior: does not go with nesting; use posterior=diagonal_normal, full_normal or laplace",
        ),
        ({"posterior": "deterministic"}, "posterior=DeterministicPosterior: does not go with nesting; use"),
        ({"posterior": "categorical", "prior": "uniform"}, "posterior=CategoricalPosterior: does not go with nesting"),
        (
            {"posterior": "vector_quantized", "prior": "uniform"},
            "posterior=VectorQuantizedPosterior: does not go with nesting",
        ),
        (
            {"prior": "flow_coupling"},
            "prior=Flow: does not go with nesting; use prior=standard_normal, diagonal_normal, mixture or vamp",
        ),
        ({"prior": "vamp", "rates": True}, "prior=VampPrior: does not go with rates=many; use prior=standard_normal"),
        ({"prior": "mixture", "rates": True}, "prior=Mixture: does not go with rates=many; use prior=standard_normal"),
        (
            {"posterior": "full_normal", "rates": True},
            "posterior=FullNormalPosterior: does not go with rates=many; use posterior=diagonal_normal",
        ),
    ],
)
def test_parts_that_do_not_go_with_nesting_are_refused(parts: dict[str, object], message: str) -> None:
    chosen = {"posterior": "diagonal_normal", "prior": "standard_normal", **parts}
    rates = partial(ManyRates, lowest=0.1, highest=10.0) if chosen.pop("rates", False) else None
    with pytest.raises(ConfigError) as error:
        make(str(chosen["posterior"]), str(chosen["prior"]), rates=rates)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
