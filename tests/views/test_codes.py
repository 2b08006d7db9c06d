"""Codes of distributions and of images, and their features."""

from __future__ import annotations

import pytest
import torch

from nelbo.distributions import DiagonalNormal, OneHots, Quantized, code_of
from nelbo.views.codes import has_classes, modes
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import SHAPE, make_vae


def test_the_code_of_a_distribution_is_its_mean_or_its_most_probable_classes() -> None:
    shares = torch.tensor([[[0.4, 0.6], [0.9, 0.1]]])
    assert code_of(OneHots(shares.log())).tolist() == [[[0, 1], [1, 0]]]
    code, vectors = torch.eye(3)[torch.tensor([[2, 0]])], torch.randn(1, 2, 5)
    assert torch.equal(code_of(Quantized(code, vectors, vectors)), code)
    mean = torch.randn(4, 3)
    assert torch.equal(code_of(DiagonalNormal(mean, torch.ones(4, 3))), mean)


@torch.no_grad()
def test_features_are_probabilities_or_entries_of_the_codebook() -> None:
    x = torch.rand(5, *SHAPE)
    categorical = make_vae("mlp", "categorical", "categorical").eval()
    quantizing = make_vae("conv", "vector_quantized", "categorical").eval()
    q = categorical.encode(x)
    assert isinstance(q, OneHots) and q.event_shape == (3, 4)
    assert torch.equal(categorical.features(q.mean), q.logits.softmax(-1).flatten(1))
    quantized = quantizing.encode(x)
    assert isinstance(quantized, Quantized) and quantized.quantized.shape[1:] == (4, 3)  # 2 x 2 places
    assert torch.equal(quantizing.features(quantized.mean), quantized.quantized.mT.flatten(1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["ladder", "top_down"])
def test_modes_are_those_of_q_given_the_modes_above(kind: str) -> None:
    model, x = make_hierarchy(kind).eval(), torch.rand(5, *SHAPE)
    codes = modes(model, x)
    assert [tuple(code.shape) for code in codes] == [(5, *event) for event in model.events]
    latents = model.draw(x, model.infer(x), 1, mode=True).latents
    assert all(
        torch.equal(code, latent.q.mean.reshape(code.shape)) for code, latent in zip(codes, latents, strict=True)
    )
    assert torch.equal(codes[0], model.encode(x).mean) and not has_classes(model)


@torch.no_grad()
@pytest.mark.parametrize(("posterior", "prior"), [("diagonal_normal", "mixture"), ("categorical", "categorical")])
def test_modes_of_one_level_are_codes(posterior: str, prior: str) -> None:
    model, x = make_vae(posterior=posterior, prior=prior).eval(), torch.rand(5, *SHAPE)
    (code,) = modes(model, x)
    assert torch.equal(code, code_of(model.encode(x))) and has_classes(model) == (posterior == "categorical")
