"""The linear theory (`nelbo.theory`) of a finished run: its images and its config, turned into a `LinearTheory`.

Shapes: N training images, M held-out images, P pixels, K directions, D latent dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nelbo.distributions import DiagonalNormal, NormalPixels
from nelbo.evaluation.measure import NotApplicable, Subject
from nelbo.metrics.collapse import final_beta
from nelbo.models.nesting import LATENT_DIM
from nelbo.theory.linear import LinearTheory
from nelbo.theory.spectrum import LeadingSpectrum, principal_directions
from nelbo.trace import LOG_BETA

ELBO = "nelbo.objectives.NegativeELBO"

MOST_PIXELS = 1024
"""Largest P for which all P directions are computed exactly, in seconds; above it the leading ones are approximated."""

FEWEST_DIRECTIONS, SPARE = 64, 10
"""Smallest number of directions of an approximation, and how many are computed beyond those that are used: the last
ones are the least accurate."""

BLOCK = 1000
"""Training images that are read at once."""

HELD_OUT = 2000
"""Largest number of held-out images that are used."""

FEWEST = 50
"""Smallest number of training images, and of held-out images, from which a spectrum is estimated."""

NO_PREDICTION = "collapse: the linear theory makes no prediction"


def linear_theory(subject: Subject) -> LinearTheory:
    """Return the optimum of a linear model that has the sigma of this model, on all training images.

    Raises:
        NotApplicable: if the optimum is unknown for this likelihood, prior or objective, or there are too few images.
    """
    px, (latent, *below) = subject.example.px, subject.example.latents
    if {LOG_BETA, LATENT_DIM} & subject.example.context.keys():
        raise NotApplicable(f"{NO_PREDICTION}: it is one of a model with one beta and one number of latents")
    if below:
        raise NotApplicable(f"{NO_PREDICTION}: it is one of a single level of latents")
    if not isinstance(px, NormalPixels) or px.shared_scale.numel() != 1:
        raise NotApplicable(
            f"{NO_PREDICTION}: it needs a Gaussian likelihood with one sigma, such as likelihood=gaussian"
        )
    if not isinstance(latent.p, DiagonalNormal):
        raise NotApplicable(f"{NO_PREDICTION}: it needs a Gaussian prior, such as prior=standard_normal")
    target = (subject.config.get("objective") or {}).get("_target_", ELBO)
    if target != ELBO:
        raise NotApplicable(f"{NO_PREDICTION}: it needs objective=elbo, and the run has {target}")
    beta = final_beta(subject.config)
    if beta is None:
        raise NotApplicable(f"{NO_PREDICTION}: without a beta from the run's config.yaml the water level is unknown")
    if beta == 0:
        raise NotApplicable(f"{NO_PREDICTION}: with objective.beta=0 the KL has no weight, so every unit is worth it")
    spectrum = leading_spectrum(subject, latent.q.event_shape.numel())
    return LinearTheory(spectrum, beta * px.shared_scale.cpu().double().square().item())


def leading_spectrum(subject: Subject, latent_dim: int) -> LeadingSpectrum:
    """Compute the spectrum of all training images and up to 2,000 held-out images.

    The held-out images are those of the validation split, or of the test split if the former has fewer than 50.

    Args:
        subject: provides the images.
        latent_dim: D. Where not all directions are computed, at least twice as many are.

    Raises:
        NotApplicable: if there are fewer than 50 training images or held-out images.
    """
    held_out = "val" if len(subject.splits["val"]) >= FEWEST else "test"
    fewest = min(len(subject.splits["train"]), len(subject.splits[held_out]))
    if fewest < FEWEST:
        raise NotApplicable(
            f"{NO_PREDICTION}: it needs at least {FEWEST} training images and {FEWEST} held-out images, and there are "
            f"{fewest}"
        )
    count = max(2 * latent_dim, FEWEST_DIRECTIONS) + SPARE
    mean, values, vectors = training_directions(subject, count, "collapse: spectrum")
    x = subject.map("collapse: images held out", lambda x: {"x": x.flatten(1)}, split=held_out, limit=HELD_OUT)["x"]
    return LeadingSpectrum(values, ((x.double() - mean) @ vectors).square(), len(values) == len(mean))


def training_directions(subject: Subject, count: int, task: str) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean (P,), eigenvalues (K,) and eigenvectors (P, K) of the training images.

    For up to 1,024 pixels all of them are computed, exactly; for more, the `count` leading ones are approximated.

    Args:
        subject: provides the images.
        count: K of an approximation.
        task: label of the progress bar, and of the random state of an approximation.
    """
    pixels, start = math.prod(subject.model.shape), None
    if pixels > max(count, MOST_PIXELS):
        with subject.random_state(task, 0):
            start = torch.randn(pixels, count, dtype=torch.float64)
    return principal_directions(lambda columns: covariance(subject, columns, task), start)


def covariance(subject: Subject, columns: Tensor | None, task: str) -> tuple[Tensor, Tensor]:
    """Compute the mean of all training images (P,), and their covariance (P, P) or its product with `columns` (P, K).

    The sums are taken in float64, one block of images at a time, about the mean of the first block. Processes share
    the blocks.
    """
    images, processes = subject.splits["train"], subject.processes
    blocks = torch.arange(len(images)).split(BLOCK)
    origin = images[blocks[0]].flatten(1).double().mean(dim=0)
    shift = torch.zeros_like(origin)
    product = origin.new_zeros(len(origin), len(origin) if columns is None else columns.shape[1])
    for number in range(processes.rank, len(blocks), processes.count):
        x = images[blocks[number]].flatten(1).double() - origin
        shift += x.sum(dim=0)
        product += x.T @ (x if columns is None else x @ columns)
        subject.watch(task, min(number + processes.count, len(blocks)), len(blocks))
    shift, product = (torch.stack(processes.join([part], processes.count)).sum(dim=0) for part in (shift, product))
    shift /= len(images)
    along = shift if columns is None else shift @ columns
    return origin + shift, product / len(images) - torch.outer(shift, along)
