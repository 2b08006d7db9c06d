"""The picture `posterior`, codes of images on a plane.

Shapes: N images, M samples of the prior, D latent dimensions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.errors import ConfigError, choice, positive_integer
from nelbo.pictures.levels import PRIOR_SAMPLES
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.projections import METHODS, Projection
from nelbo.pictures.scatter import GREY, scatter
from nelbo.pictures.sheet import rendered
from nelbo.views.conditions import given

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AUTO = "auto"
CODES = ("mean", "sample")
FEWEST = 3
"""Smallest number of images."""


class Posterior(Picture):
    """The aggregate posterior: codes of images on a plane, coloured by label, over samples of the prior in grey.

    Of several levels it shows the top one. Codes of classes are shown by their probabilities (ones and zeros for a
    `sample`), and those of a codebook by its entries, flattened. Arrays: z (N, D), points (N, 2), labels (N,), and
    prior (M, 2) if the method can project it.

    Args:
        method: `none`, `pca`, `tsne` or `umap`; `auto` is `none` for two latents, else `pca`.
        codes: `mean` of q(z|x), or `sample` of it.
        limit: largest number of images, evenly spread over the split.

    Raises:
        ConfigError: if the method's package is not installed.
    """

    takes_conditions = True

    def __init__(self, *, method: str, codes: str, limit: int) -> None:
        self.method = choice("method", method, (AUTO, *METHODS))
        self.codes = choice("codes", codes, CODES)
        self.limit = positive_integer("limit", limit)
        if method == "umap" and importlib.util.find_spec("umap") is None:  # checked before the work starts
            raise ConfigError("method", method, "needs a package: pip install umap-learn")

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        model = scene.model
        if model.feature_size < 2:  # no method can draw it
            where = "" if len(model.events) == 1 else " at its top level"
            hint = f"has one latent{where}, and this picture needs two; draw a traversal instead"
            raise ConfigError("run", scene.name, hint)
        positions = scene.evenly_spaced(self.limit)
        if (images := len(scene.images)) < FEWEST:
            hint = f"has {images} image{'s' * (images > 1)}; a picture of the posterior needs {FEWEST}"
            raise ConfigError("split", scene.split, hint)
        if len(positions) < FEWEST:
            raise ConfigError("limit", self.limit, f"must be at least {FEWEST} for a picture of the posterior")
        labels = scene.images.labels[positions]
        posteriors = (bound.encode(x) for bound, x in scene.given_batches(positions))
        codes = (mean_of(q) if self.codes == "mean" else q.sample() for q in posteriors)
        z = torch.cat([model.features(part) for part in codes]).cpu()
        p = given(model, scene.context(positions[:PRIOR_SAMPLES])).top_prior()
        prior = model.features(p.sample(torch.Size(() if p.batch_shape else (PRIOR_SAMPLES,)))).cpu()
        method = ("none" if z.shape[-1] == 2 else "pca") if self.method == AUTO else self.method
        projection = METHODS[method](z, prior, torch.initial_seed() % 2**32)
        shown = "means" if self.codes == "mean" else "samples"
        shown += "" if len(model.events) == 1 else " of the top level"
        title = f"{scene.name}: {shown} of q(z|x) of {len(z):,} {scene.split} images"
        arrays = {"z": z, "points": projection.codes, "labels": labels}
        if projection.prior is not None:
            arrays["prior"] = projection.prior
        return Drawing(rendered(_figure(projection, labels, scene.classes, title)), arrays)


def _figure(projection: Projection, labels: Tensor, classes: Sequence[str], title: str) -> Figure:
    """Draw projected codes over the projected prior, with a title and a legend."""
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    if projection.prior is not None:
        axes.scatter(projection.prior[:, 0], projection.prior[:, 1], c=GREY, s=5, linewidths=0, label="prior")
    scatter(axes, projection.codes, labels, classes)
    axes.set(xlabel=projection.axes[0], ylabel=projection.axes[1], aspect="equal")
    axes.set_title(f"{title}\n{projection.subtitle}".rstrip(), parse_math=False)
    if not any(projection.axes):  # the coordinates have no meaning
        axes.set(xticks=[], yticks=[])
    _, names = axes.get_legend_handles_labels()
    if names:
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, handletextpad=0.2)
        for text in legend.get_texts():
            text.set_parse_math(False)
        for handle in legend.legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([40])
    return figure
