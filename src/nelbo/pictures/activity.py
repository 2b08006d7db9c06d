"""Ranking and selection of latent units, and the code that a picture starts from.

Shapes: B images, D latent dimensions, U selected units; N variables with L classes each for one-hot codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.distributions import code_of, mean_of
from nelbo.errors import ConfigError, integer
from nelbo.models import Model
from nelbo.pictures.latent import by_activity, prior_quantiles
from nelbo.pictures.picture import Scene
from nelbo.trace import unit_kl
from nelbo.views.codes import has_classes

EXAMPLES = 512
"""Largest number of images by which units are ranked."""


@dataclass(frozen=True)
class Ranking:
    """The units of a model, ordered by how much information they have about images.

    Args:
        order: the units (D,), those with the largest KL first, or the largest variance of E_q[z] if there is no KL.
        kl: KL of each unit (D,), in nats, averaged over images; None if q or p does not factorise.
    """

    order: Tensor
    kl: Tensor | None


def ranking(scene: Scene) -> Ranking:
    """Rank the units by up to 512 images of the split.

    The model's own samples would not do: they show which units the decoder uses, not which ones the encoder does.
    """
    prior = scene.model.top_prior()
    posteriors = [scene.model.encode(x) for x in scene.batches(scene.evenly_spaced(EXAMPLES))]
    try:
        kl = torch.cat([unit_kl(q, prior) for q in posteriors]).mean(dim=0)
    except NotImplementedError:  # single units have no KL
        return Ranking(by_activity(torch.cat([mean_of(q) for q in posteriors])), None)
    return Ranking(kl.argsort(descending=True), kl)


def start(scene: Scene, image: int | None) -> tuple[Tensor, str]:
    """Return a code to start from, (D,) or (N, L), and its description for titles.

    Args:
        scene: the model and its images.
        image: position of the image whose code is returned; None for the median of the prior, or its most probable
            classes, which need no data.

    Raises:
        ConfigError: if the split has no such image.
    """
    if image is not None:
        return scene.codes(scene.position(image))[0], f"the code of {scene.split} image {image}"
    model = scene.model
    if has_classes(model):
        return code_of(model.top_prior()), "the most probable classes of the prior"
    return prior_quantiles(model, 3)[1], "the median of the prior"


def unit_numbers(units: object, count: int | None = None) -> list[int] | None:
    """Return `units` if it is None or a list of different units.

    Args:
        units: the value in the config.
        count: required number of units; None for one or more.

    Raises:
        ConfigError: if it is neither.
    """
    if units is None:
        return None
    if not isinstance(units, Sequence) or isinstance(units, str) or not units:
        raise ConfigError("units", units, "must be null, or a list of units, such as [3,0]")
    numbers = [integer("units", unit, minimum=0) for unit in units]
    if len(set(numbers)) < len(numbers) or (count is not None and len(numbers) != count):
        required = "different units" if count is None else f"{count} different units"
        raise ConfigError("units", numbers, f"must be {required}, such as [3,0]")
    return numbers


def require_units(model: Model, units: Sequence[int]) -> Tensor:
    """Return `units` as a tensor (U,).

    Raises:
        ConfigError: if the model has no such unit.
    """
    total = model.events[0][0]
    if max(units) >= total:
        raise ConfigError("units", list(units), f"the model has units 0 to {total - 1}")
    return torch.tensor(units)
