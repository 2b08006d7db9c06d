"""Contracts of hierarchies: every posterior, prior, likelihood and objective, and what levels mean."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from nelbo.errors import ConfigError
from nelbo.heads import DiscretizedLogisticMixture
from nelbo.models import Hierarchy, TopDownVAE
from tests.helpers.deep_models import COMMON, MODELS, TOP_DOWN, make_hierarchy
from tests.helpers.factors import (
    CODE_POSTERIORS,
    LIKELIHOODS,
    OBJECTIVES,
    POSTERIORS,
    PRIORS,
    SHAPE,
    images,
    refusal,
)

KINDS = list(MODELS)
COMBINATIONS = [
    (kind, *parts)
    for kind, parts in product(KINDS, product(POSTERIORS, PRIORS))
    if parts[0] != "deterministic" and refusal(*parts, "none") is None
]
ONE_LEVEL = {"reconstruction", "dreg", "stl", "piwae", "beta_tc", "dip", "factor", "info", "wae", "vq_vae"}
"""Objectives that may refuse several levels; the others must accept them."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_trace_agrees_with_the_densities_of_the_model(kind: str, likelihood: str) -> None:
    model, x = make_hierarchy(kind, likelihood=likelihood).eval(), images(likelihood)
    model.initialize(x)
    trace = model.trace(x, num_samples=4)
    assert trace.px.batch_shape == (4, 7) and trace.px.event_shape == SHAPE
    assert [latent.z.shape[2:] for latent in trace.latents] == list(map(torch.Size, model.events))
    assert trace.kl.shape == trace.log_weight.shape == (4, 7) and trace.kl.isfinite().all()
    zs = [latent.z for latent in trace.latents]
    torch.testing.assert_close(model.log_joint(x, zs), trace.log_joint)
    torch.testing.assert_close(trace.log_weight, trace.log_joint - trace.log_q)
    assert model.decode(*(z[0, 0] for z in zs)).batch_shape == ()
    assert model.generate(5).sample().shape == (5, *SHAPE)


@pytest.mark.parametrize(("kind", "posterior", "prior"), COMBINATIONS)
def test_every_parameter_gets_a_gradient_from_every_objective(kind: str, posterior: str, prior: str) -> None:
    index = COMBINATIONS.index((kind, posterior, prior))
    for number, name in enumerate(list(OBJECTIVES)[index % 5 :: 5]):  # each objective with a fifth of the combinations
        likelihood = list(LIKELIHOODS)[(index + number) % len(LIKELIHOODS)]
        model, x, objective = make_hierarchy(kind, posterior, prior, likelihood), images(likelihood), OBJECTIVES[name]()
        wake_up(model)
        example = model.eval().trace(x, 1)
        if name in ONE_LEVEL or refusal(posterior, prior, name):
            try:
                objective.check(example)
            except ConfigError as error:
                assert str(error).startswith(f"objective={name}: ") and "\n" not in str(error), error
                continue
        objective.check(example)
        trace = model.train().trace(x, objective.num_samples)
        objective(trace, 0).total.backward()
        for key, parameter in model.named_parameters():
            gradient = parameter.grad
            assert gradient is not None and gradient.isfinite().all() and gradient.any(), (name, key)


@pytest.mark.parametrize("posterior", ["deterministic", *CODE_POSTERIORS])
def test_a_posterior_without_a_density_over_vectors_is_refused(posterior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.deep_models.POSTERIORS", POSTERIORS | CODE_POSTERIORS)
    with pytest.raises(ConfigError, match="no density over real numbers, which the levels of a hierarchy need; use"):
        make_hierarchy(posterior=posterior)


@pytest.mark.parametrize("kind", KINDS)
def test_unfolded_noise_has_the_density_of_the_levels(kind: str) -> None:
    model = make_hierarchy(kind).eval().double()
    wake_up(model)
    top, noise = torch.randn(3, 5, model.events[0][0]).double(), torch.randn(3, 5, model.noise_size).double()
    zs = model.unfold(top, noise)
    assert [z.shape[2:] for z in zs] == list(map(torch.Size, model.events))
    # The map from noise to z has a triangular Jacobian; here its determinant is taken by automatic differentiation.
    jacobian = torch.autograd.functional.jacobian(
        lambda e: torch.cat([z.flatten() for z in model.unfold(top[:1, :1], e)[1:]]), noise[:1, :1]
    )
    log_det = jacobian.reshape(model.noise_size, model.noise_size).slogdet().logabsdet
    standard = -0.5 * (noise[0, 0].square() + math.log(2 * math.pi)).sum()
    expected = model.top_prior().log_prob(top[0, 0]) + standard - log_det
    torch.testing.assert_close(model.log_prior(*zs)[0, 0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_drawn_from_the_prior_add_nothing_to_the_weights(kind: str) -> None:
    model, x = make_hierarchy(kind).eval(), images()
    wake_up(model)
    inference = model.infer(x)
    for number in range(len(model.events) + 1):
        trace = model.draw(x, inference, 3, prior_from=number)
        terms = [latent.log_p - latent.log_q for latent in trace.latents]
        for level, term in enumerate(terms):
            assert (term == 0).all() == (level >= number), (number, level)
        torch.testing.assert_close(trace.log_weight, sum(terms, start=trace.log_px))
    assert torch.equal(model.draw(x, inference, 1, prior_from=0).log_weight.new_zeros(1), torch.zeros(1))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_keep_the_levels_above_and_follow_the_temperature(kind: str) -> None:
    model = make_hierarchy(kind).eval()
    wake_up(model)
    top = torch.randn(6, model.events[0][0])
    first, second = (model.sample(6, above=(top,)) for _ in range(2))
    assert torch.equal(first[0], top) and not torch.equal(first[1], second[1])
    given = model.sample(6, above=first[:2])
    assert torch.equal(given[1], first[1]) and not torch.equal(given[2], first[2])
    modes = [model.sample(6, 0, above=(top,)) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*modes, strict=True))
    many = top[:1].expand(2000, -1)
    mean = model.sample(1, 0, above=(top[:1],))[1]
    for temperature in (0.5, 1.0):
        torch.manual_seed(0)
        spread = (model.sample(2000, [1, temperature, 1], above=(many,))[1] - mean).square().mean(dim=0)
        torch.manual_seed(0)
        wide = (model.sample(2000, [1, 1, 1], above=(many,))[1] - mean).square().mean(dim=0)
        torch.testing.assert_close(spread, temperature**2 * wide, rtol=1e-3, atol=1e-6)
    with pytest.raises(ConfigError, match="temperature=.*must be one number, or one for each of 3 levels"):
        model.sample(2, [1.0, 0.5])


@pytest.mark.parametrize("kind", KINDS)
def test_the_mode_of_every_level_is_drawn_without_noise(kind: str) -> None:
    model, x = make_hierarchy(kind, "full_normal").eval(), images()
    inference = model.infer(x)
    first, second = (model.draw(x, inference, 1, mode=True) for _ in range(2))
    for one, other in zip(first.latents, second.latents, strict=True):
        assert torch.equal(one.z, other.z)
    assert torch.equal(first.latents[1].z, first.latents[1].q.mean)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("posterior", ["diagonal_normal", "flow_coupling", "full_normal"])
def test_free_parameters_give_the_same_posteriors(kind: str, posterior: str) -> None:
    model, x = make_hierarchy(kind, posterior).eval(), images()
    inference = model.infer(x)
    traces = []
    for each in (inference, inference.replace(inference.parameters())):
        torch.manual_seed(1)
        traces.append(model.draw(x, each, 2))
    torch.testing.assert_close(traces[0].log_weight, traces[1].log_weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_residual_posterior_starts_at_the_prior(kind: str) -> None:
    model, x = make_hierarchy(kind, "residual_normal"), images()
    for latent in model.trace(x).latents[1:]:
        assert latent.kl.abs().max() < 1e-4  # the scale relative to that of p starts at 1.001
    kls = make_hierarchy(kind, "diagonal_normal").trace(x).latents[1].kl
    assert kls.min() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointed_activations_change_nothing(kind: str) -> None:
    x, results = images(), []
    for checkpoint_activations in (False, True):
        torch.manual_seed(0)
        model = make_hierarchy(kind, checkpoint_activations=checkpoint_activations)
        torch.manual_seed(1)
        trace = model.trace(x, 2)
        (trace.kl - trace.log_px).mean().backward()
        results.append([trace.log_weight, *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_distributions_are_in_float32_under_autocast(kind: str) -> None:
    model, x = make_hierarchy(kind, likelihood="bernoulli"), images("bernoulli")
    torch.manual_seed(1)
    exact = model.trace(x, 8)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trace = model.trace(x, 8)
    assert trace.log_px.dtype == trace.kl.dtype == torch.float32
    for latent in trace.latents:
        assert latent.q.mean.dtype == latent.p.mean.dtype == torch.float32
    assert (trace.log_px - exact.log_px).mean().abs() < 0.2


@pytest.mark.parametrize(
    ("shape", "layout", "events"),
    [
        ((1, 28, 28), ["1x1", "7x3"], [(2, 7, 7)] * 3),
        ((3, 32, 32), ["4x1", "8x2", "16x3"], [(2, 8, 8)] * 2 + [(2, 16, 16)] * 3),
        ((1, 8, 8), ["1x2", "2x1", "8x1"], [(2, 1, 1), (2, 2, 2), (2, 8, 8)]),
        ((2, 13, 17), ["4x2", "7x1"], [(2, 4, 5), (2, 7, 9)]),
    ],
)
def test_a_layout_fits_images_of_any_size(shape: tuple[int, ...], layout: list[str], events: list[Any]) -> None:
    model, x = make_hierarchy("top_down", shape=shape, layout=layout), torch.rand(3, *shape)
    assert list(model.events[1:]) == events
    assert model.trace(x).log_px.shape == (1, 3) and model.generate(2).mean.shape == (2, *shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": ["7x1"]}, "layout=.*: must have two or more levels; model=conv_vae has one"),
        ({"layout": ["1x1", "5x2"]}, r"layout\[1\]=5x2: images of 28x28 can be halved to 1, 2, 4, 7, 14, 28 rows"),
        ({"layout": ["7x1", "4x2"]}, "layout=.*: must rise from low to high resolution, the top level first"),
        ({"layout": ["7"]}, r"layout\[0\]=7: must be resolution x levels, such as 7x3"),
        ({"layout": "7x3"}, r"layout=7x3: must be a list of resolution x levels, such as \[1x1,7x3\]"),
        ({"width": [8]}, "width=.*: must be one number, or one for each of the layout's 2 entries"),
        ({"latent_channels": 0}, "latent_channels=0"),
        ({"form": "heavy"}, "form=heavy"),
        ({"features": 0}, "features=0"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        make_hierarchy("top_down", shape=(1, 28, 28), **{"layout": ["1x1", "7x2"], **options})
    assert "\n" not in str(refused.value)


def test_a_ladder_needs_two_levels() -> None:
    with pytest.raises(ConfigError, match=r"levels=.*: must be a list of length 2 or more"):
        make_hierarchy(levels=[3])


def test_the_design_reaches_the_size_of_very_deep_vaes() -> None:
    """45 levels for 32x32 colour images, as in Child (2021), whose model has 39 million parameters."""
    deep = TOP_DOWN | {"latent_dim": 16, "latent_channels": 16, "width": 384, "form": "bottleneck", "depth": 4}
    layout = ["1x3", "4x5", "8x8", "16x12", "32x17"]
    with torch.device("meta"):
        model = TopDownVAE(
            shape=(3, 32, 32),
            **(deep | COMMON | {"layout": layout, "top_width": 384, "checkpoint_activations": True}),
            posterior=POSTERIORS["diagonal_normal"],
            prior=PRIORS["standard_normal"],
            likelihood=lambda *shapes: DiscretizedLogisticMixture(*shapes, levels=256, components=10),
        )
        trace = model.trace(torch.zeros(2, 3, 32, 32))
    assert len(model.events) == 45 and model.events[1] == (16, 1, 1) and model.events[-1] == (16, 32, 32)
    assert trace.log_px.shape == trace.kl.shape == (1, 2)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert 36 < millions < 44, millions


@torch.no_grad()
def wake_up(model: Hierarchy) -> None:
    """Give layers that start at 0 random weights, so that gradients reach what lies before them."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.2)
