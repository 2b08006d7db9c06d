"""Pictures of a model's latent space as tensors (C, height, width) in [0, 1].

Shapes: B images, D latent dimensions, U units, K steps, C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal, StandardNormal, mean_of
from nelbo.models import VAE
from nelbo.pictures.grids import grid, normal_quantiles
from nelbo.pictures.scatter import draw_codes

PRIOR_SAMPLES = 2000
MASS = (0.025, 0.975)
"""Between these quantiles of the prior a unit is moved."""


def reconstructions(model: VAE, images: Tensor, columns: int) -> Tensor:
    """Each of the images (B, C, H, W) above the mean of p(x|z) at the mean of q(z|x)."""
    means = model.decode(mean_of(model.encode(images))).mean
    columns = min(columns, len(images))
    rows = len(images) // columns
    pairs = torch.stack([part[: rows * columns].unflatten(0, (rows, columns)) for part in (images, means)], dim=1)
    return grid(pairs.flatten(0, 1))


def traversals(model: VAE, images: Tensor, units: int, steps: int) -> Tensor:
    """From the code of the first image, each of the most active units moved over the quantiles of its prior."""
    means = mean_of(model.encode(images))
    chosen = by_activity(means)[:units]
    return grid(model.decode(moved(means[0], chosen, prior_quantiles(model, steps))).mean)


def manifold(model: VAE, side: int) -> Tensor:
    """p(x|z).mean over a square of quantiles of the prior, for two latents (Kingma & Welling 2014, figure 4)."""
    quantiles = prior_quantiles(model, side)
    return grid(model.decode(plane(quantiles[0], (0, 1), quantiles, quantiles)).mean)


def aggregate_posterior(model: VAE, images: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    """Means of q(z|x) coloured by label, and the prior: the circle that holds 95% of N(0, I), or samples of another."""
    from matplotlib.figure import Figure

    from nelbo.pictures.figures import as_picture

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


def by_activity(means: Tensor) -> Tensor:
    """Units (D,), those first whose means E_q[z] (B, D) vary most over the images."""
    return means.var(dim=0, correction=0).argsort(descending=True)


def moved(z: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """The code z (D,) with one of the units (U,) at each of its values (K, D), (U, K, D)."""
    codes = z.expand(len(units), len(values), -1).clone()
    for row, unit in enumerate(units.tolist()):
        codes[row, :, unit] = values[:, unit]
    return codes


def plane(z: Tensor, units: tuple[int, int], horizontal: Tensor, vertical: Tensor) -> Tensor:
    """The code z (D,) with two of its units over a grid of values (K, D) and (R, D): (R, K, D), the largest on top."""
    first, second = units
    codes = z.expand(len(vertical), len(horizontal), -1).clone()
    codes[..., first] = horizontal[:, first]
    codes[..., second] = vertical[:, second].flip(0).unsqueeze(-1)
    return codes
