"""Codes on a plane.

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
"""Of t-SNE and of UMAP: what their authors and libraries suggest."""


@dataclass(frozen=True)
class Projection:
    """Codes on a plane.

    Args:
        codes: (N, 2).
        prior: samples of the prior on the same plane, (M, 2); None where the method maps nothing but what it saw.
        axes: names of both.
        told: about the method, for titles.
    """

    codes: Tensor
    prior: Tensor | None
    axes: tuple[str, str]
    told: str


def none(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Two latents as they are.

    Raises:
        ConfigError: if there are more or fewer.
    """
    if codes.shape[-1] != 2:
        raise ConfigError("method", "none", f"needs two latents, the model has {codes.shape[-1]}: method=pca")
    return Projection(codes, prior, ("unit 0", "unit 1"), "")


def pca(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """The two directions in which codes vary most, and the prior seen from there.

    Raises:
        ConfigError: if there is one latent.
    """
    from sklearn.decomposition import PCA

    _needs_two("pca", codes)
    with np.errstate(invalid="ignore"):  # where all codes are one point there is no variance to have a share of
        fitted = PCA(2, svd_solver="full").fit(codes.numpy())
    first, second = (100 * share for share in np.nan_to_num(fitted.explained_variance_ratio_))
    seen = torch.from_numpy(fitted.transform(prior.numpy()))
    told = f"PCA, {first + second:.0f}% of the variance explained"
    names = (f"first component ({first:.1f}%)", f"second component ({second:.1f}%)")
    return Projection(torch.from_numpy(fitted.transform(codes.numpy())), seen, names, told)


def tsne(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Neighbours stay neighbours (van der Maaten & Hinton 2008); distances between groups mean nothing."""
    from sklearn.manifold import TSNE

    _needs_two("tsne", codes)
    perplexity = min(PERPLEXITY, (len(codes) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes.numpy())
    return Projection(torch.from_numpy(found), None, ("", ""), f"t-SNE, perplexity {perplexity:g}")


def umap(codes: Tensor, prior: Tensor, seed: int) -> Projection:
    """Neighbours stay neighbours (McInnes et al. 2018); distances between groups mean little.

    Raises:
        ConfigError: if umap-learn is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # that a part of it which we do not use wants TensorFlow
        try:
            from umap import UMAP
        except ImportError as error:
            raise ConfigError("method", "umap", "needs a package: pip install umap-learn") from error
    _needs_two("umap", codes)
    neighbors = min(NEIGHBORS, len(codes) - 1)
    found = UMAP(n_neighbors=neighbors, random_state=seed, n_jobs=1).fit_transform(codes.numpy())
    return Projection(torch.from_numpy(found), None, ("", ""), f"UMAP, {neighbors} neighbors")


Method = Callable[[Tensor, Tensor, int], Projection]
METHODS: dict[str, Method] = {"none": none, "pca": pca, "tsne": tsne, "umap": umap}


def _needs_two(method: str, codes: Tensor) -> None:
    if codes.shape[-1] < 2:
        raise ConfigError("method", method, "needs two latents or more, the model has one")
