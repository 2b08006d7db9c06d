"""Codes of images, both vectors and one-hot codes."""

from __future__ import annotations

from nelbo.distributions import is_discrete
from nelbo.models import Model


def has_classes(model: Model) -> bool:
    """Return whether the codes z of the top level are one-hot, (N, K), instead of vectors, (D,)."""
    return is_discrete(model.top_prior())
