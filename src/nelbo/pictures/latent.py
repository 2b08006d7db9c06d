"""Pictures of a model's latent space as tensors (C, height, width) in [0, 1].

Shapes: B images, D latent dimensions, U units, K steps, C H W image; of one-hot codes N variables of L classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nelbo.distributions import DiagonalNormal, StandardNormal, mean_of
from nelbo.models import VAE
from nelbo.pictures.scatter import draw_codes
from nelbo.views.codes import code_of, has_classes
from nelbo.views.grids import grid, normal_quantiles
from nelbo.views.images import spread

PRIOR_SAMPLES = 2000
MASS = (0.025, 0.975)
"""Between these quantiles of the prior a unit is moved."""


def reconstructions(model: VAE, images: Tensor, columns: int) -> Tensor:
    """Each of the images (B, C, H, W) above the mean of p(x|z) at the code that stands for q(z|x)."""
    means = model.decode(code_of(model.encode(images))).mean
    columns = min(columns, len(images))
    rows = len(images) // columns
    pairs = torch.stack([part[: rows * columns].unflatten(0, (rows, columns)) for part in (images, means)], dim=1)
    return grid(pairs.flatten(0, 1))


def traversals(model: VAE, images: Tensor, units: int, steps: int) -> Tensor:
    """From the code of the first image, each of the most active units moved over its `settings`."""
    q = model.encode(images)
    chosen = by_activity(mean_of(q))[:units]
    return grid(model.decode(moved(code_of(q)[0], chosen, settings(model, steps).values)).mean)


def manifold(model: VAE, side: int) -> Tensor:
    """p(x|z).mean over a square of quantiles of the prior, for two latents (Kingma & Welling 2014, figure 4)."""
    quantiles = prior_quantiles(model, side)
    return grid(model.decode(plane(quantiles[0], (0, 1), quantiles, quantiles)).mean)


def aggregate_posterior(model: VAE, images: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    """Means of q(z|x) coloured by label, and the prior: the circle that holds 95% of N(0, I), or samples of another."""
    from matplotlib.figure import Figure

    from nelbo.views.figures import as_picture

    figure = Figure(figsize=(6.4, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    prior = model.prior(model.encode)
    samples = None if isinstance(prior, StandardNormal) else prior.sample(torch.Size((PRIOR_SAMPLES,))).cpu()
    draw_codes(axes, mean_of(model.encode(images)).cpu(), labels, classes, samples)
    return as_picture(figure)


def prior_quantiles(model: VAE, count: int) -> Tensor:
    """`count` points that cut each unit's prior into equal parts, between its 2.5% and 97.5% quantiles, (count, D).

    Exact for Gaussians; of any other prior they are those of samples.
    """
    prior = model.prior(model.encode)
    if isinstance(prior, DiagonalNormal):
        return prior.loc + prior.scale * normal_quantiles(count, prior.loc.device).unsqueeze(-1)
    samples: Tensor = prior.sample(torch.Size((PRIOR_SAMPLES,)))
    return samples.quantile(torch.linspace(*MASS, count, device=samples.device), dim=0)


@dataclass(frozen=True)
class Settings:
    """What a unit is set to in turn.

    Args:
        values: of each unit, (K, D), or one-hot (K, N, L).
        names: of each of the K.
        told: what they are, for titles.
    """

    values: Tensor
    names: list[str]
    told: str


def settings(model: VAE, count: int) -> Settings:
    """Of vectors `count` quantiles of each unit's prior, of codes all classes, or `count` evenly spread over them."""
    if not has_classes(model):
        shares = torch.linspace(100 * MASS[0], 100 * MASS[1], count).tolist()
        names = [f"{share:.3g}%" for share in shares]
        return Settings(prior_quantiles(model, count), names, "units moved over the quantiles of their prior")
    units, classes = model.posterior.event_shape(model.latent_dim)
    chosen = spread(classes, count)
    values = functional.one_hot(chosen, classes).unsqueeze(1).expand(-1, units, -1)
    told = f"units set to {'each' if len(chosen) == classes else f'{len(chosen)}'} of {classes} classes"
    return Settings(values, [str(number) for number in chosen.tolist()], told)


def by_activity(means: Tensor) -> Tensor:
    """Units (D,), those first whose means E_q[z] (B, D) vary most over the images; of one-hot codes, summed over L."""
    variances = means.var(dim=0, correction=0)
    return variances.reshape(len(variances), -1).sum(-1).argsort(descending=True)


def moved(z: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """The code z (D,) with one of the units (U,) at each of its values (K, D), (U, K, D); one-hot: (U, K, N, L)."""
    codes = z.expand(len(units), len(values), *z.shape).clone()
    for row, unit in enumerate(units.tolist()):
        codes[row, :, unit] = values[:, unit].to(codes)
    return codes


def plane(z: Tensor, units: tuple[int, int], horizontal: Tensor, vertical: Tensor) -> Tensor:
    """The code z (D,) with two of its units over a grid of values (K, D) and (R, D): (R, K, D), the largest on top."""
    first, second = units
    codes = z.expand(len(vertical), len(horizontal), -1).clone()
    codes[..., first] = horizontal[:, first]
    codes[..., second] = vertical[:, second].flip(0).unsqueeze(-1)
    return codes
