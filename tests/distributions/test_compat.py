"""The private interfaces of torch that `nelbo.distributions.compat` uses exist in the installed version."""

from __future__ import annotations

import math

import torch
from torch.distributions import OneHotCategorical

from nelbo.distributions.compat import UncheckedOneHotCategorical

PACKAGE = f"torch {torch.__version__}"


def test_one_hot_categorical_keeps_its_parameters_in_a_private_attribute() -> None:
    hint = f"{PACKAGE}: OneHotCategorical has no _categorical, which nelbo.distributions.compat sets"
    assert "_categorical" in vars(OneHotCategorical(logits=torch.zeros(3))), hint


def test_unchecked_one_hot_categorical_equals_that_of_torch() -> None:
    logits = torch.randn(5, 3, 4)
    unchecked, checked = UncheckedOneHotCategorical(logits), OneHotCategorical(logits=logits)
    value = checked.sample()
    assert unchecked.batch_shape == checked.batch_shape and unchecked.event_shape == checked.event_shape
    for name in ("logits", "probs", "mean", "mode", "variance"):
        hint = f"{PACKAGE}: OneHotCategorical.{name} does not use _categorical, which nelbo.distributions.compat sets"
        assert torch.equal(getattr(unchecked, name), getattr(checked, name)), hint
    assert torch.equal(unchecked.log_prob(value), checked.log_prob(value)), PACKAGE
    assert torch.equal(unchecked.entropy(), checked.entropy()), PACKAGE


def test_unchecked_one_hot_categorical_accepts_nan() -> None:
    logits = torch.tensor([math.nan, 0.0])
    assert UncheckedOneHotCategorical(logits).probs.isnan().all(), PACKAGE
