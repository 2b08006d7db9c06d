"""Ranking and selection of latent units, and the code that a picture starts from.

Shapes: B images, D latent dimensions, U selected units; N variables with L classes each for one-hot codes. A unit of a
map (C, h, w) is a channel.
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
from nelbo.trace import Latent, unit_kl
from nelbo.views.codes import has_classes

EXAMPLES = 512
"""Largest number of images by which units are ranked."""


@dataclass(frozen=True)
class Ranking:
    """The units of a level, ordered by how much information they have about images.

    Args:
        order: the units (D,), those with the largest KL first, or the largest variance of E_q[z] if there is no KL.
        kl: KL of each unit (D,), in nats, averaged over images; None if q or p does not factorise.
    """

    order: Tensor
    kl: Tensor | None


def ranking(scene: Scene, level: int = 1) -> Ranking:
    """Rank the units of a level by up to 512 images of the split.

    The model's own samples would not do: they show which units the decoder uses, not which ones the encoder does.
    """
    if level > 1:
        return _ranking_below(scene, level)
    prior = scene.model.top_prior()
    posteriors = [scene.model.encode(x) for x in scene.batches(scene.evenly_spaced(EXAMPLES))]
    try:
        kl = torch.cat([unit_kl(q, prior) for q in posteriors]).mean(dim=0)
    except NotImplementedError:  # single units have no KL
        return Ranking(by_activity(torch.cat([mean_of(q) for q in posteriors])), None)
    return Ranking(kl.argsort(descending=True), kl)


def _ranking_below(scene: Scene, level: int) -> Ranking:
    """Rank the units of a level below the top, whose q and p depend on the levels above: on a sample for each image."""
    batches = scene.batches(scene.evenly_spaced(EXAMPLES))
    latents = [scene.model.trace(x).latents[level - 1] for x in batches]
    try:
        kl = torch.cat([latent.unit_kl for latent in latents]).mean(dim=0)
    except NotImplementedError:  # single units have no KL
        return Ranking(by_activity(torch.cat([_means(latent) for latent in latents])), None)
    return Ranking(kl.argsort(descending=True), kl)


def _means(latent: Latent) -> Tensor:
    """Return E_q[z], (B, *event)."""
    mean = mean_of(latent.q)
    return latent.over_examples(mean, len(latent.q.event_shape))


def start(scene: Scene, image: int | None) -> tuple[tuple[Tensor, ...], str]:
    """Return a code to start from by level, top first, (*event) each, and its description for titles.

    Args:
        scene: the model and its images.
        image: position of the image whose code is returned; None for the median of the prior, or its most probable
            classes, which need no data. Levels below the top are then at the mode of p(z|above).

    Raises:
        ConfigError: if the split has no such image.
    """
    if image is not None:
        code = scene.codes(scene.position(image))
        return tuple(z[0] for z in code), f"the code of {scene.split} image {image}"
    model = scene.model
    if has_classes(model):
        top, place = code_of(model.top_prior()), "the most probable classes of the prior"
    else:
        top, place = prior_quantiles(model, 3)[1], "the median of the prior"
    return tuple(z[0] for z in model.sample(1, 0, above=(top.unsqueeze(0),))), place


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


def require_units(model: Model, units: Sequence[int], level: int = 1) -> Tensor:
    """Return `units` as a tensor (U,).

    Raises:
        ConfigError: if the level has no such unit.
    """
    total = model.events[level - 1][0]
    if max(units) >= total:
        owner = "the model" if len(model.events) == 1 else f"level {level}"
        raise ConfigError("units", list(units), f"{owner} has units 0 to {total - 1}")
    return torch.tensor(units)
