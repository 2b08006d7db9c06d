"""Codes of distributions, and their features."""

from __future__ import annotations

import torch

from nelbo.distributions import DiagonalNormal, OneHots, Quantized
from nelbo.views.codes import code_of, features
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
    assert torch.equal(features(categorical, q.mean), q.logits.softmax(-1).flatten(1))
    quantized = quantizing.encode(x)
    assert isinstance(quantized, Quantized) and quantized.quantized.shape[1:] == (4, 3)  # 2 x 2 places
    assert torch.equal(features(quantizing, quantized.mean), quantized.quantized.mT.flatten(1))
