"""Runs that the guard stops."""

from __future__ import annotations

import pytest

from nelbo.errors import Diverged
from tests.helpers.diverging import (
    Training,
)

ONE_IMAGE = ("data.batch_size=1", "data.validation_size=1300")


def divergence_message(training: Training) -> str:
    with pytest.raises(Diverged) as error:
        training.fit()
    assert "\n" not in str(error.value)
    return str(error.value)
