"""Every measure on models with several levels of latents, on conditional models, and on the first latents of one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.evaluation.measure import NotApplicable, Subject
from nelbo.models import VAE, Model, Nesting
from tests.helpers.conditional import conditioned
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import LIKELIHOODS, NETS, POSTERIORS, PRIORS
from tests.helpers.gaussian_levels import LinearLevels
from tests.helpers.measures import NAMES, active_vae, make_digits, make_measures, run_measure

SHAPE = (1, 8, 8)
MEASURES = make_measures()


def spread(model: Model, noise: float = 0.2) -> Model:
    """Move all parameters of a model by noise, so that no head is zero and codes vary between images."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model


DEEP: dict[str, Callable[[], Model]] = {
    "ladder": lambda: spread(make_hierarchy("ladder", shape=SHAPE)),
    "residual": lambda: spread(make_hierarchy("ladder", "residual_normal", shape=SHAPE)),
    "mixture at the top": lambda: spread(make_hierarchy("ladder", prior="mixture", shape=SHAPE)),
    "maps": lambda: spread(make_hierarchy("top_down", shape=SHAPE, layout=["1x1", "2x1", "4x1"]), 0.4),
    "map at the top": lambda: LinearLevels([(3, 1, 2), (2,)], SHAPE).float(),
}
REASONS = {
    ("mixture at the top", "total_correlation"): "needs units that are independent",
    ("mixture at the top", "udr"): "has no KL per unit",
}
"""Why a measure is left out, by model and measure; all others are taken."""


OF_EVERY_MODEL = [name for name in NAMES if name != "accuracy"]
"""Measures that are not of models that infer labels alone."""


def is_finite(subject: Subject, name: str) -> bool:
    values = run_measure(MEASURES[name], subject).values
    return bool(values) and all(math.isfinite(value) for value in values.values() if not isinstance(value, str))


@pytest.mark.parametrize("model", DEEP)
def test_every_measure_of_several_levels_is_finite_or_left_out_with_one_line(model: str) -> None:
    subject = make_digits(DEEP[model]())
    for name in OF_EVERY_MODEL:
        if reason := REASONS.get((model, name)):
            with pytest.raises(NotApplicable, match=reason) as error:
                run_measure(MEASURES[name], subject)
            assert "\n" not in str(error.value)
        else:
            assert is_finite(subject, name), name


def both(kind: str) -> tuple[Model, Model]:
    """Return a model bound to label 1, and the same model without a context."""
    torch.manual_seed(0)
    plain = spread(make_hierarchy("ladder", shape=SHAPE)) if kind == "ladder" else active_vae()
    free = conditioned(copy.deepcopy(plain))  # type: ignore[type-var]
    fixed = conditioned(copy.deepcopy(plain), label=1)  # type: ignore[type-var]
    fixed.load_state_dict(free.state_dict())
    return free.at(label=1), fixed


@pytest.mark.parametrize("kind", ["one level", "ladder"])
def test_every_measure_of_a_bound_model_is_that_of_the_same_model_without_a_context(kind: str) -> None:
    bound, fixed = (make_digits(model) for model in both(kind))
    for name in OF_EVERY_MODEL:
        if (kind, name) == ("one level", "levels"):
            continue
        values, expected = (run_measure(MEASURES[name], subject).values for subject in (bound, fixed))
        assert values.keys() == expected.keys()
        for key, value in values.items():
            close = (
                value == expected[key] if isinstance(value, str) else pytest.approx(expected[key], 1e-4, 1e-5) == value
            )
            assert close, key


def test_no_measure_of_a_conditional_model_is_taken_without_a_context() -> None:
    subject = make_digits(conditioned(active_vae()))
    for name in NAMES:
        with pytest.raises(NotApplicable, match=r"conditioned on label, .* model\.at\(label=\.\.\.\)$"):
            run_measure(MEASURES[name], subject)
    with pytest.raises(ConfigError, match="context=color: is not among what this model is conditioned on: label"):
        subject.model.at(color=1)


@pytest.mark.parametrize(("posterior", "prior"), [("laplace", "diagonal_normal"), ("full_normal", "vamp")])
def test_every_measure_of_the_first_latents_is_finite_or_left_out_with_one_line(posterior: str, prior: str) -> None:
    torch.manual_seed(0)
    encoder, decoder = NETS["mlp"]
    model = VAE(
        shape=SHAPE,
        latent_dim=4,
        encoder=encoder,
        posterior=POSTERIORS[posterior],
        prior=PRIORS[prior],
        decoder=decoder,
        likelihood=LIKELIHOODS["gaussian_fixed"],
        nesting=partial(Nesting, decay=1.0),
    )
    subject, left_out = make_digits(spread(model, 0.3).at(latent_dim=2)), []
    for name in OF_EVERY_MODEL:
        try:
            assert is_finite(subject, name), name
        except NotApplicable as reason:
            assert "\n" not in str(reason)
            left_out.append(name)
    assert left_out == ["levels", *([] if posterior == "laplace" else ["total_correlation", "udr"])]
