"""The settings of a model that was trained once for many of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from nelbo.models.bound import BoundModel
from nelbo.models.model import Model
from nelbo.models.nesting import LATENT_DIM
from nelbo.models.vae import VAE
from nelbo.trace import LOG_BETA

BETA = "beta"
STEPS = (1.0, 2.0, 5.0)
"""The values of beta in a decade that tables and figures show."""

Setting = Mapping[str, float]
"""Values to bind with `model.at`, by name: `beta`, `latent_dim` or both."""


def axes_of(model: Model) -> dict[str, tuple[float, ...]]:
    """Return the values at which tables and figures show a model that was trained for many settings.

    These are betas in steps of 1, 2 and 5 that the model was trained for, with both ends of the interval, and powers
    of two up to the number of latents, with that number.

    Returns:
        The values in ascending order by name, `latent_dim` first; empty for an ordinary model.
    """
    bound: set[str] = set()
    while isinstance(model, BoundModel):
        bound |= set(model.setting)
        model = model.model
    if not isinstance(model, VAE) or model.surface is None:
        return {}
    axes: dict[str, tuple[float, ...]] = {}
    if (nesting := model.surface.nesting) is not None and LATENT_DIM not in bound:
        axes[LATENT_DIM] = powers_of_two(nesting.latent_dim)
    if (rates := model.surface.rates) is not None and LOG_BETA not in bound:
        axes[BETA] = round_steps(rates.lowest, rates.highest)
    return axes


def settings_of(axes: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Return all combinations of the values of axes.

    Example:
        >>> settings_of({"latent_dim": (1, 2), "beta": (0.5,)})
        [{'latent_dim': 1, 'beta': 0.5}, {'latent_dim': 2, 'beta': 0.5}]
    """
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def powers_of_two(largest: int) -> tuple[int, ...]:
    """Return the powers of two up to a number, and the number.

    Example:
        >>> powers_of_two(10)
        (1, 2, 4, 8, 10)
    """
    return tuple(sorted({*(2**exponent for exponent in range(largest.bit_length())), largest}))


def round_steps(low: float, high: float) -> tuple[float, ...]:
    """Return the numbers 1, 2 and 5, times powers of ten, of an interval, and its ends.

    Example:
        >>> round_steps(0.1, 3)
        (0.1, 0.2, 0.5, 1.0, 2.0, 3.0)
    """
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    inner = [float(f"{step}e{decade}") for decade in decades for step in STEPS]
    return tuple(sorted({float(low), float(high), *(value for value in inner if low < value < high)}))
