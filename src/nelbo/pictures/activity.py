"""Which units carry something, and how much.

Shapes: B images, D latent dimensions; of one-hot codes N variables of L classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.models import VAE
from nelbo.pictures.codes import code_of, has_classes
from nelbo.pictures.latent import by_activity, prior_quantiles
from nelbo.pictures.picture import Scene
from nelbo.trace import unit_kl

EXAMPLES = 512


@dataclass(frozen=True)
class Base:
    """A code to start from, and the units of the model.

    Args:
        z: the code, (D,) or (N, L).
        told: what code that is, for titles.
        order: the units (D,), those first whose means E_q[z] vary most over images.
        kl: the KL of each unit (D,) in nats, averaged over images; None where q or p does not factorise.
    """

    z: Tensor
    told: str
    order: Tensor
    kl: Tensor | None


def base(scene: Scene, image: int | None) -> Base:
    """The code of an image, with units judged by images of its split.

    Without an image, the median of the prior (its most probable classes), with units judged by the model's own
    samples: no data are needed.

    Raises:
        ConfigError: if the split has no such image.
    """
    model = scene.model
    if image is None:
        sizes = [len(part) for part in torch.arange(EXAMPLES).split(scene.batch_size)]
        batches = [model.generate(size).mean.clamp(0, 1) for size in sizes]
        z, told = _middle(model)
    else:
        z = scene.codes(scene.position(image))[0]
        told = f"the code of {scene.split} image {image}"
        batches = list(scene.batches(scene.spread(EXAMPLES)))
    posteriors = [model.encode(x) for x in batches]
    prior = model.prior(model.encode)
    order = by_activity(torch.cat([mean_of(q) for q in posteriors]))
    try:
        kl = torch.cat([unit_kl(q, prior) for q in posteriors]).mean(dim=0)
    except NotImplementedError:  # the units have none of their own: the picture says nothing of it
        kl = None
    return Base(z, told, order, kl)


def _middle(model: VAE) -> tuple[Tensor, str]:
    """The code in the middle of the prior, and what that is."""
    if has_classes(model):
        return code_of(model.prior(model.encode)), "the most probable classes of the prior"
    return prior_quantiles(model, 3)[1], "the median of the prior"
