"""The posterior q(z|x) of one image, as the page shows it.

Shapes: U units of a level, C H W image. KLs and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal, mean_of
from nelbo.explorer.decoding import picture
from nelbo.explorer.explored import Explored, Place
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated
from nelbo.trace import Latent

SPREAD_SAMPLES = 256
"""Samples by which the standard deviation of q is estimated where it has no closed form."""

SEED = 0


@dataclass(frozen=True, eq=False)
class LevelPosterior:
    """q of one level for one image, given the modes of the levels above.

    Args:
        mean: of each unit, (U,); of a level below the top 0, as its units are shown from the code of the image on.
        deviation: standard deviation of each unit, (U,); of a level below the top in standard deviations of p(z|above),
            where that of a channel is the root of the mean square over its places.
        kl: KL of each unit, (U,); None if q or p does not factorise.
        total: KL of the level; None if it is not defined.
    """

    mean: Tensor
    deviation: Tensor
    kl: Tensor | None
    total: float | None


@dataclass(frozen=True, eq=False)
class ImagePosterior:
    """An image and its posterior.

    Args:
        x: the image as it is shown, (C, H, W) in [0, 1].
        label: its label; -1 without one.
        distortion: -log p(x|z) at the modes of q(z|x).
        levels: q of each level, top first.
    """

    x: Tensor
    label: int
    distortion: float
    levels: Sequence[LevelPosterior]


@torch.no_grad()
def posterior_of(explored: Explored, place: Place) -> ImagePosterior:
    """Return the posterior of an image at a setting, under its own condition.

    Args:
        explored: the run.
        place: the image and the setting.

    Raises:
        ConfigError: if there is no such image, or the model was not trained for the setting.
    """
    position = explored.scene.position(place.image)
    model, x = explored.encoder(place), explored.scene.take(position)
    with float32(IEEE), isolated(SEED):
        trace = model.draw(x, model.infer(x), 1, mode=True)
        levels = [_level(latent, is_top=level == 0) for level, latent in enumerate(trace.latents)]
        distortion = -float(trace.log_px[0, 0])
    return ImagePosterior(picture(model, x[0]), int(explored.images.labels[position]), distortion, levels)


def spread_of(q: Distribution) -> Tensor:
    """Return the standard deviation of q, (..., *event): exact if it has a closed form, else of samples."""
    try:
        deviation: Tensor = q.stddev
    except NotImplementedError:
        deviation = q.sample(torch.Size((SPREAD_SAMPLES,))).std(dim=0)
    return deviation


def _level(latent: Latent, *, is_top: bool) -> LevelPosterior:
    """Return q of one level for one image, of a trace with one sample."""
    total = float(latent.kl[0, 0]) if latent.has_kl else None
    kl = _unit_kl(latent)
    if is_top:
        mean, deviation = mean_of(latent.q), spread_of(latent.q)
        own = [value.reshape(-1, value.shape[-1])[0].cpu() for value in (mean, deviation)]
        return LevelPosterior(own[0], own[1], kl, total)
    assert isinstance(latent.q, DiagonalNormal) and isinstance(latent.p, DiagonalNormal)
    places = (latent.q.scale / latent.p.scale)[0, 0].reshape(latent.z.shape[2], -1)
    deviation = places.square().mean(dim=-1).sqrt().cpu()
    return LevelPosterior(torch.zeros_like(deviation), deviation, kl, total)


def _unit_kl(latent: Latent) -> Tensor | None:
    """Return the KL of each unit, (U,); None if single units have none."""
    try:
        return latent.unit_kl[0].cpu()
    except NotImplementedError:
        return None
