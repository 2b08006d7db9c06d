"""Tiny hierarchies of every kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nelbo.models import Hierarchy, LadderVAE, TopDownVAE
from tests.helpers.factors import LATENT_DIM, LIKELIHOODS, POSTERIORS, PRIORS, SHAPE

LADDER: dict[str, Any] = {"levels": [LATENT_DIM, 4, 2], "width": 8, "hidden": None, "depth": 1}
TOP_DOWN: dict[str, Any] = {
    "latent_dim": LATENT_DIM,
    "layout": ["1x1", "3x2"],
    "latent_channels": 2,
    "width": 8,
    "hidden": None,
    "form": "light",
    "depth": 1,
    "top_width": 8,
    "output_width": 4,
    "features": 3,
}
COMMON: dict[str, Any] = {"activation": "GELU", "center": True, "checkpoint_activations": False}
MODELS: dict[str, tuple[Callable[..., Hierarchy], dict[str, Any]]] = {
    "ladder": (LadderVAE, LADDER),
    "top_down": (TopDownVAE, TOP_DOWN),
}


def make_hierarchy(
    kind: str = "ladder",
    posterior: str = "diagonal_normal",
    prior: str = "standard_normal",
    likelihood: str = "gaussian",
    shape: Sequence[int] = SHAPE,
    **options: Any,
) -> Hierarchy:
    """Return a tiny hierarchy of the named components, of three levels unless the options say otherwise."""
    make, own = MODELS[kind]
    return make(
        shape=tuple(shape),
        posterior=POSTERIORS[posterior],
        prior=PRIORS[prior],
        likelihood=LIKELIHOODS[likelihood],
        **{**own, **COMMON, **options},
    )
