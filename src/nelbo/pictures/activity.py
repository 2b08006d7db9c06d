"""Which units carry something, and how much; and the code that a picture starts from.

Shapes: B images, D latent dimensions; of one-hot codes N variables of L classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.errors import ConfigError, integer
from nelbo.models import VAE
from nelbo.pictures.latent import by_activity, prior_quantiles
from nelbo.pictures.picture import Scene
from nelbo.trace import unit_kl
from nelbo.views.codes import code_of, has_classes

EXAMPLES = 512


@dataclass(frozen=True)
class Ranking:
    """The units of a model by what they carry of images.

    Args:
        order: the units (D,), those of the largest KL first, or whose means E_q[z] vary most where there is no KL.
        kl: the KL of each unit (D,) in nats, averaged over images; None where q or p does not factorise.
    """

    order: Tensor
    kl: Tensor | None


def ranking(scene: Scene) -> Ranking:
    """The units, judged by up to 512 images of the split: a model's own samples tell what its decoder uses of them."""
    prior = scene.model.prior(scene.model.encode)
    posteriors = [scene.model.encode(x) for x in scene.batches(scene.spread(EXAMPLES))]
    try:
        kl = torch.cat([unit_kl(q, prior) for q in posteriors]).mean(dim=0)
    except NotImplementedError:  # the units have none of their own: the picture says nothing of it
        return Ranking(by_activity(torch.cat([mean_of(q) for q in posteriors])), None)
    return Ranking(kl.argsort(descending=True), kl)


def start(scene: Scene, image: int | None) -> tuple[Tensor, str]:
    """A code to start from, (D,) or (N, L), and what it is, for titles.

    That of an image of the split; without one the median of the prior (its most probable classes), which needs no data.

    Raises:
        ConfigError: if the split has no such image.
    """
    if image is not None:
        return scene.codes(scene.position(image))[0], f"the code of {scene.split} image {image}"
    model = scene.model
    if has_classes(model):
        return code_of(model.prior(model.encode)), "the most probable classes of the prior"
    return prior_quantiles(model, 3)[1], "the median of the prior"


def unit_numbers(units: object, count: int | None = None) -> list[int] | None:
    """`units`, if it is null or a list of different units.

    Args:
        units: what was given.
        count: how many there must be; None for one or more.

    Raises:
        ConfigError: if it is neither.
    """
    if units is None:
        return None
    if not isinstance(units, Sequence) or isinstance(units, str) or not units:
        raise ConfigError("units", units, "must be null, or a list of units, such as [3,0]")
    numbers = [integer("units", unit, minimum=0) for unit in units]
    if len(set(numbers)) < len(numbers) or (count is not None and len(numbers) != count):
        wanted = "different units" if count is None else f"{count} different units"
        raise ConfigError("units", numbers, f"must be {wanted}, such as [3,0]")
    return numbers


def require_units(model: VAE, units: Sequence[int]) -> Tensor:
    """`units` as a tensor (U,).

    Raises:
        ConfigError: if the model has no such unit.
    """
    total = model.posterior.event_shape(model.latent_dim)[0]
    if max(units) >= total:
        raise ConfigError("units", list(units), f"the model has units 0 to {total - 1}")
    return torch.tensor(units)
