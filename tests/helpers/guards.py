"""Runs that the guard stops because they diverge."""

from __future__ import annotations

import pytest

from nelbo.errors import Diverged
from tests.helpers.diverging import Training

ONE_IMAGE = ("data.batch_size=1", "data.validation_size=1300")


def divergence_message(training: Training) -> str:
    """Train, which must end with `Diverged`, and return its message of one line."""
    with pytest.raises(Diverged) as error:
        training.fit()
    assert "\n" not in str(error.value)
    return str(error.value)
