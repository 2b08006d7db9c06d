"""Projections of codes to a plane.

Shapes: N codes, M samples of the prior, D latent dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nelbo.errors import ConfigError

PERPLEXITY, NEIGHBORS = 30.0, 15
"""Perplexity of t-SNE and neighbours of UMAP, as their authors and libraries suggest."""


@dataclass(frozen=True)
class Projection:
    """Codes projected to a plane.

    Args:
        codes: (N, 2).
        prior: samples of the prior on the same plane, (M, 2); None if the method cannot map other points.
        axes: labels of both axes.
        subtitle: description of the method; may be empty.
    """

    codes: Tensor
    prior: Tensor | None
    axes: tuple[str, str]
    subtitle: str


def none(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Return codes of two latents unchanged.

    Raises:
        ConfigError: if there are not exactly two latents.
    """
    if codes.shape[-1] != 2:
        raise ConfigError("method", "none", f"needs two latents, and the model has {codes.shape[-1]}; use method=pca")
    return Projection(codes, prior, ("unit 0", "unit 1"), "")


def pca(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Project codes and the prior to the first two principal components of the codes.

    Raises:
        ConfigError: if there is only one latent.
    """
    from sklearn.decomposition import PCA

    _needs_two("pca", codes)
    with np.errstate(invalid="ignore"):  # without any variance the explained share is 0 / 0
        fitted = PCA(2, svd_solver="full").fit(codes.numpy())
    first, second = (100 * share for share in np.nan_to_num(fitted.explained_variance_ratio_))
    projected_prior = torch.from_numpy(fitted.transform(prior.numpy()))
    subtitle = f"PCA, {first + second:.0f}% of the variance explained"
    names = (f"first component ({first:.1f}%)", f"second component ({second:.1f}%)")
    return Projection(torch.from_numpy(fitted.transform(codes.numpy())), projected_prior, names, subtitle)


def tsne(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Project codes by t-SNE (van der Maaten & Hinton 2008), which keeps neighbours but not distances between groups.

    Raises:
        ConfigError: if there is only one latent.
    """
    from sklearn.manifold import TSNE

    _needs_two("tsne", codes)
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes.numpy())
    return Projection(torch.from_numpy(points), None, ("", ""), f"t-SNE, perplexity {perplexity:g}")


def umap(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Project codes by UMAP (McInnes et al. 2018), which keeps neighbours but hardly distances between groups.

    Raises:
        ConfigError: if umap-learn is not installed, or there is only one latent.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # an unused part of umap-learn needs TensorFlow
        try:
            from umap import UMAP
        except ImportError as error:
            raise ConfigError("method", "umap", "needs a package: pip install umap-learn") from error
    _needs_two("umap", codes)
    neighbors = min(NEIGHBORS, len(codes) - 1)
    points = UMAP(n_neighbors=neighbors, random_state=seed, n_jobs=1).fit_transform(codes.numpy())
    return Projection(torch.from_numpy(points), None, ("", ""), f"UMAP, {neighbors} neighbors")


Method = Callable[[Tensor, Tensor, int], Projection]
"""A function from codes (N, D), samples of the prior (M, D) and a seed to a projection."""

METHODS: dict[str, Method] = {"none": none, "pca": pca, "tsne": tsne, "umap": umap}


def _needs_two(method: str, codes: Tensor) -> None:
    """Raise an error unless codes have at least two latents.

    Raises:
        ConfigError: if they have one.
    """
    if codes.shape[-1] < 2:
        raise ConfigError("method", method, "needs at least two latents, and the model has one")
