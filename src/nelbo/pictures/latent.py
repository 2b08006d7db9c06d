"""Pictures of a model's latent space as tensors (C, height, width) in [0, 1].

Shapes: B images, D latent dimensions, U units, K steps, C H W image; N variables with L classes each for one-hot
codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nelbo.distributions import DiagonalNormal, StandardNormal, mean_of
from nelbo.models import Model
from nelbo.pictures.levels import PRIOR_SAMPLES, decode, spread
from nelbo.pictures.projections import pca
from nelbo.pictures.scatter import draw_codes
from nelbo.views.codes import has_classes, modes
from nelbo.views.grids import grid, normal_quantiles
from nelbo.views.images import evenly_spaced

MASS = (0.025, 0.975)
"""Probabilities of the quantiles of the prior between which a unit is varied."""

SCATTER_SIZE = (3.5, 3.0)
"""Width and height of the scatter of codes in inches of 100 pixels, as wide as TensorBoard shows it."""

SHIFT = 2
"""Standard deviations of p(z|above) by which the channel of a map is shifted in both directions."""


def reconstructions(model: Model, images: Tensor, columns: int) -> Tensor:
    """Draw each of the images (B, C, H, W) above its reconstruction, the mean of p(x|z) at the mode of q(z|x)."""
    means = model.decode(*modes(model, images)).mean
    columns = min(columns, len(images))
    rows = len(images) // columns
    pairs = torch.stack([part[: rows * columns].unflatten(0, (rows, columns)) for part in (images, means)], dim=1)
    return grid(pairs.flatten(0, 1), values=model.value_range)


def traversals(model: Model, images: Tensor, units: int, steps: int, ranked_by: Model | None = None) -> Tensor:
    """Draw the code of the first image with each of the most active units varied over its `settings`, a row each.

    Of several levels it is the top one whose units are varied; those below are at the mode of p(z|above).

    Args:
        model: the model, at the condition of the first image if it has one.
        images: (B, C, H, W), in [0, 1].
        units: the largest number of units.
        steps: the number of values of each.
        ranked_by: the model with the condition of each image bound; None for `model`.
    """
    chosen = by_activity(mean_of((ranked_by or model).encode(images)))[:units]
    top = modes(model, images[:1])[0][0]
    means = decode(model, moved(top, chosen, settings(model, steps, (top,)).values))
    return grid(means, values=model.value_range)


def manifold(model: Model, side: int) -> Tensor:
    """Draw means of p(x|z) over a square of quantiles of a prior of two latents (Kingma & Welling 2014, figure 4)."""
    quantiles = prior_quantiles(model, side)
    means = decode(model, plane(quantiles[0], (0, 1), quantiles, quantiles))
    return grid(means, values=model.value_range)


def aggregate_posterior(model: Model, images: Tensor, labels: Tensor, classes: Sequence[str]) -> Tensor:
    """Draw means of q(z|x) coloured by label, over the prior; more than two latents by principal components.

    The prior is shown by samples, or for two latents of N(0, I) by the circle that contains 95% of it. The picture is
    as large as TensorBoard shows it.

    Args:
        model: with vectors of two or more latents at its top level.
        images: (B, C, H, W) in [0, 1].
        labels: (B,); -1 for an image without a label.
        classes: names of the labels; empty if unknown.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    from nelbo.views.figures import as_picture

    figure = Figure(figsize=SCATTER_SIZE, dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.1))
    axes = figure.add_subplot()
    prior, codes = model.top_prior(), mean_of(model.encode(images)).cpu()
    # One sample for each image if the prior is conditioned.
    samples = prior.sample(torch.Size(() if prior.batch_shape else (PRIOR_SAMPLES,))).cpu()
    names = ("z₁", "z₂")
    if codes.shape[-1] > 2:
        projected = pca(codes, samples, seed=0)
        codes, names = projected.codes, projected.axes
        assert projected.prior is not None
        samples = projected.prior
    has_circle = isinstance(prior, StandardNormal) and names == ("z₁", "z₂")
    draw_codes(axes, codes, labels, classes, None if has_circle else samples, names=names)
    axes.tick_params(labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(9)
    return as_picture(figure)


def prior_quantiles(model: Model, count: int) -> Tensor:
    """Return `count` quantiles of the prior of each unit of the top level, from 2.5% to 97.5%, (count, *event).

    Their probabilities are evenly spaced.

    They are exact for Gaussians, and those of samples for any other prior.
    """
    prior = model.top_prior()
    if isinstance(prior, DiagonalNormal):
        return normal_values(prior.loc, prior.scale, normal_quantiles(count, prior.loc.device))
    samples: Tensor = prior.sample(torch.Size((PRIOR_SAMPLES,)))
    return samples.quantile(torch.linspace(*MASS, count, device=samples.device), dim=0)


@dataclass(frozen=True)
class Settings:
    """The values over which units are varied.

    Args:
        values: K values of each unit, (K, *event): (K, D), one-hot (K, N, L), or maps (K, C, h, w).
        names: label of each of the K values.
        description: for titles.
    """

    values: Tensor
    names: list[str]
    description: str


def settings(model: Model, count: int, codes: Sequence[Tensor]) -> Settings:
    """Return values of the units of a level: quantiles of their prior, shifts of the channels of a map, or classes.

    A unit of a vector takes `count` quantiles of p(z|above). A channel of a map is shifted as a whole by `count`
    multiples of the standard deviation of p(z|above), from -2 to 2. A one-hot code takes all classes or `count` of
    them.

    Args:
        model: the model.
        count: K.
        codes: z of the levels down to that of the units, (*event) each, where the latter is what is shifted.
    """
    above, z = codes[:-1], codes[-1]
    if not above and has_classes(model):
        return _classes(model, count)
    prior = "p(z|above)" if above else "their prior"
    if z.ndim == 3:
        steps = torch.linspace(-SHIFT, SHIFT, count)
        values = normal_values(z, spread(model, above)[1], steps.to(z))
        deviations = "p(z|above)" if above else "the prior"
        names = [f"{step:+.2g}" if abs(step) > 1e-6 else "0" for step in steps.tolist()]
        return Settings(values, names, f"channels shifted by -{SHIFT} to {SHIFT} standard deviations of {deviations}")
    shares = torch.linspace(100 * MASS[0], 100 * MASS[1], count).tolist()
    quantiles = normal_values(*spread(model, above), normal_quantiles(count, z.device)) if above else None
    values = prior_quantiles(model, count) if quantiles is None else quantiles
    return Settings(values, [f"{share:.3g}%" for share in shares], f"units varied over the quantiles of {prior}")


def normal_values(loc: Tensor, scale: Tensor, multiples: Tensor) -> Tensor:
    """Return loc + multiple * scale, (K, *event), for K multiples."""
    return loc + scale * multiples.reshape(-1, *[1] * loc.ndim)


def _classes(model: Model, count: int) -> Settings:
    """Return all classes of the codes of the top level, or `count` of them."""
    units, classes = model.events[0]
    chosen = evenly_spaced(classes, count)
    values = functional.one_hot(chosen, classes).unsqueeze(1).expand(-1, units, -1)
    description = f"units set to {'each' if len(chosen) == classes else f'{len(chosen)}'} of {classes} classes"
    return Settings(values, [str(number) for number in chosen.tolist()], description)


def by_activity(means: Tensor) -> Tensor:
    """Return the units in descending order of the variance of E_q[z], (B, *event).

    The variances are summed over the classes of a one-hot code and over the places of a channel.
    """
    variances = means.var(dim=0, correction=0)
    return variances.reshape(len(variances), -1).sum(-1).argsort(descending=True)


def moved(z: Tensor, units: Tensor, values: Tensor) -> Tensor:
    """Return codes equal to z but for one unit, which takes each of its values.

    Args:
        z: (D,), one-hot (N, L), or a map (C, h, w).
        units: the varied units, (U,).
        values: K values of each unit, (K, *event).

    Returns:
        (U, K, *event).
    """
    codes = z.expand(len(units), len(values), *z.shape).clone()
    for row, unit in enumerate(units.tolist()):
        codes[row, :, unit] = values[:, unit].to(codes)
    return codes


def plane(z: Tensor, units: tuple[int, int], horizontal: Tensor, vertical: Tensor) -> Tensor:
    """Return codes equal to z but for two units, which are varied over a grid, (R, K, D).

    Args:
        z: (D,).
        units: the unit that varies over columns, and the one that varies over rows.
        horizontal: K values of each unit, ascending, (K, D).
        vertical: R values of each unit, ascending, (R, D); the largest is in the first row.
    """
    first, second = units
    codes = z.expand(len(vertical), len(horizontal), -1).clone()
    codes[..., first] = horizontal[:, first]
    codes[..., second] = vertical[:, second].flip(0).unsqueeze(-1)
    return codes
