"""What the images of a run say about its latents: the KL of each unit, its range, and points on a plane.

Shapes: N images, M samples of the prior, D latents of the top level, U units of a level. KLs are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.errors import ConfigError
from nelbo.models import Model
from nelbo.numerics.randomness import isolated
from nelbo.pictures import Scene
from nelbo.pictures.latent import by_activity
from nelbo.pictures.levels import spread
from nelbo.trace import Latent
from nelbo.views.conditions import at_first

REACH = 3.5
"""Standard deviations of the prior over which a unit can be moved, at least."""

PRIOR_POINTS = 400
"""Samples of the prior that the plane shows."""

SEED = 0


@dataclass(frozen=True, eq=False)
class Units:
    """The units of a level.

    Args:
        event: the event shape of the level.
        order: the units (U,), those with the largest KL first, or the largest variance of E_q[z] if there is no KL.
        kl: KL of each unit (U,), averaged over images; None if q or p does not factorise.
    """

    event: tuple[int, ...]
    order: Tensor
    kl: Tensor | None


@dataclass(frozen=True, eq=False)
class Overview:
    """The codes of images at one setting.

    Args:
        positions: the positions of the images in their split, (N,).
        labels: their labels, (N,); -1 without one.
        means: E_q[z] of the top level, (N, D).
        levels: the units of each level, top first.
        low: the least value to which each unit of the top level can be moved, (D,).
        high: the largest, (D,).
        prior: samples of p(z) of the top level, (M, D).
    """

    positions: Tensor
    labels: Tensor
    means: Tensor
    levels: Sequence[Units]
    low: Tensor
    high: Tensor
    prior: Tensor


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane through the latent space of the top level.

    Args:
        origin: a point of it, (D,).
        axes: its two directions, (2, D), orthonormal.
        names: the names of both directions.
    """

    origin: Tensor
    axes: Tensor
    names: tuple[str, str]

    def project(self, z: Tensor) -> Tensor:
        """Return the coordinates of codes (N, D) on the plane, (N, 2)."""
        return (z - self.origin) @ self.axes.T


@torch.no_grad()
def overview(scene: Scene, count: int) -> Overview:
    """Encode images of a run.

    Args:
        scene: the model and the images.
        count: the largest number of images, evenly spread over the split.
    """
    positions = scene.evenly_spaced(count)
    means, kls = [], []
    with isolated(SEED):
        for model, x in scene.given_batches(positions):
            latents = _latents(model, x)
            means.append([_means(latent) for latent in latents])
            kls.append([_unit_kl(latent) for latent in latents])
        model = at_first(scene.model, scene.any_context(1))
        (low, high), prior = _reach(model), model.sample(PRIOR_POINTS)[0].cpu()
    levels = []
    for level, event in enumerate(scene.model.events):
        parts = [kl[level] for kl in kls]
        known = [part for part in parts if part is not None]
        kl = torch.cat(known).mean(dim=0).cpu() if len(known) == len(parts) else None
        order = (
            by_activity(torch.cat([mean[level] for mean in means])).cpu() if kl is None else kl.argsort(descending=True)
        )
        levels.append(Units(event, order, kl))
    top = torch.cat([mean[0] for mean in means]).cpu()
    return Overview(
        positions,
        scene.images.labels[positions],
        top,
        levels,
        torch.minimum(low, top.amin(dim=0)),
        torch.maximum(high, top.amax(dim=0)),
        prior,
    )


def plane_of(codes: Overview, units: Sequence[int] | None) -> Plane:
    """Return the plane of two units, or of the first two principal components of the means.

    Args:
        codes: the codes of images.
        units: the units of the horizontal and of the vertical axis; None for both latents if there are two, else for
            the principal components.

    Raises:
        ConfigError: if there is only one latent, or no such unit.
    """
    latents = codes.means.shape[1]
    if latents < 2:
        raise ConfigError("axes", units, "needs two latents, and the top level has one", located=True)
    if units is None and latents == 2:
        units = (0, 1)
    if units is not None:
        if len(set(units)) != 2 or not all(0 <= unit < latents for unit in units):
            raise ConfigError("axes", list(units), f"must be two units from 0 to {latents - 1}", located=True)
        first, second = units
        return Plane(torch.zeros(latents), torch.eye(latents)[[first, second]], (f"unit {first}", f"unit {second}"))
    origin = codes.means.mean(dim=0)
    # Samples of the prior beside the means would hide which directions images use.
    _, values, axes = torch.linalg.svd(codes.means - origin, full_matrices=False)
    axes = torch.cat([axes, torch.eye(latents)])[:2] if len(axes) < 2 else axes[:2]
    shares = (100 * values.square() / values.square().sum().clamp(min=1e-12)).tolist()
    one, two = (f"component {place} ({share:.0f}%)" for place, share in enumerate([*shares, 0.0][:2], start=1))
    return Plane(origin, axes, (one, two))


def _latents(model: Model, x: Tensor) -> Sequence[Latent]:
    """Return q, p and a sample of every level; of one level without decoding it."""
    inference = model.infer(x)
    if len(model.events) > 1:
        return model.draw(x, inference, 1).latents
    return [Latent(inference.q, inference.p, inference.q.sample().unsqueeze(0))]


def _means(latent: Latent) -> Tensor:
    """Return E_q[z], (B, *event)."""
    return latent.over_examples(mean_of(latent.q), len(latent.q.event_shape))


def _unit_kl(latent: Latent) -> Tensor | None:
    """Return the KL of each unit, (B, U); None if single units have none."""
    try:
        return latent.unit_kl
    except NotImplementedError:
        return None


def _reach(model: Model) -> tuple[Tensor, Tensor]:
    """Return the values of each unit of the top level `REACH` standard deviations off the mean of the prior, (D,)."""
    mean, deviation = spread(model, ())
    return (mean - REACH * deviation).cpu(), (mean + REACH * deviation).cpu()
