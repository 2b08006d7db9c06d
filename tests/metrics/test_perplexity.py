"""The perplexity of discrete codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn import functional

from nelbo.distributions import OneHots, Quantized
from nelbo.metrics import ActiveUnits, CodePerplexity, KLPerUnit, standard_metrics
from nelbo.trace import Latent, Trace
from tests.helpers.factors import images, make_vae


def traced(q: Distribution) -> Trace:
    """Return a trace of codes with shape (B, N, K)."""
    px = Independent(Normal(torch.zeros(1, q.batch_shape[0], 1, 2, 2), 1.0), 3)
    return Trace(torch.zeros(q.batch_shape[0], 1, 2, 2), px, (Latent(q, q, q.sample(torch.Size((1,)))),))


def quantized(classes: list[list[int]]) -> Quantized:
    """Return codes of the given classes, out of 8."""
    code = functional.one_hot(torch.tensor(classes), 8).float()
    return Quantized(code, torch.zeros(*code.shape[:2], 3), torch.zeros(*code.shape[:2], 3))


def measured(*qs: Distribution) -> Tensor:
    """Return the perplexity after a batch of each distribution."""
    metric = CodePerplexity(traced(qs[0]))
    for q in qs:
        metric.update(traced(q))
    return metric.compute()


def test_codes_of_one_codebook_are_counted_over_all_positions() -> None:
    """Class 5 twice, classes 0 and 1 once: shares 1/2, 1/4, 1/4, whose entropy is 1.5 log 2."""
    assert measured(quantized([[5, 0], [5, 1]])).item() == pytest.approx(2**1.5)
    assert measured(quantized([[5, 0]]), quantized([[5, 1]])).item() == pytest.approx(2**1.5)
    assert measured(quantized([[3, 3], [3, 3]])).item() == pytest.approx(1)
    assert measured(quantized([[0, 1, 2, 3], [4, 5, 6, 7]])).item() == pytest.approx(8)


def test_perplexities_of_variables_with_separate_classes_are_averaged() -> None:
    """The first variable is always 0, the second is 0 or 1 equally often: perplexities of 1 and 2."""
    probabilities = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    assert measured(OneHots((probabilities + 1e-12).log())).item() == pytest.approx(1.5)


def test_uncertain_classes_count_by_their_probability() -> None:
    entropy = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3))
    assert measured(OneHots(torch.tensor([[[0.7, 0.3]]] * 4).log())).item() == pytest.approx(math.exp(entropy))


@pytest.mark.parametrize("posterior", ["categorical", "vector_quantized"])
def test_codes_have_a_perplexity_and_no_active_units(posterior: str) -> None:
    model = make_vae("conv", posterior, "categorical", "bernoulli")
    trace = model.trace(images("bernoulli", 20))
    metrics = standard_metrics(trace, "test/", dequantized_levels=None)
    metrics.update(trace)
    results = metrics.compute()
    assert set(results) == {
        f"test/{name}" for name in ("reconstruction", "nelbo", "kl", "bits_per_dim", "code_perplexity")
    }
    assert 1 <= results["test/code_perplexity"] <= {"categorical": 4, "vector_quantized": 5}[posterior]
    assert not ActiveUnits.applies(trace)


def test_vectors_have_no_perplexity() -> None:
    trace = make_vae().trace(images())
    assert not CodePerplexity.applies(trace) and ActiveUnits.applies(trace)
    assert "test/code_perplexity" not in standard_metrics(trace, "test/", dequantized_levels=None)


def test_categorical_variables_have_a_kl_each_and_quantised_codes_do_not() -> None:
    trace = make_vae(posterior="categorical", prior="categorical").trace(images(count=20))
    metric = KLPerUnit(trace)
    metric.update(trace)
    assert metric.compute().shape == (3,)
    torch.testing.assert_close(metric.compute().sum(), trace.kl.mean())
    assert not KLPerUnit.applies(make_vae(posterior="vector_quantized", prior="uniform").trace(images()))
