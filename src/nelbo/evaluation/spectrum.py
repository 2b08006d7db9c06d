"""In which directions training images vary, and how many of these are worth a unit on images that were held out.

Shapes: N training images, M images held out, P pixels, K directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nelbo.evaluation.measure import NoMeaning, Subject

MOST_PIXELS = 1024
"""Up to this all P directions are computed exactly, which takes seconds; beyond, the leading ones are approximated."""

FEWEST_DIRECTIONS, SPARE = 64, 10
"""Of an approximation: so many at least, and so many more than are used, whose own errors are the largest."""

PASSES = 4
"""Over all training images, of an approximation."""

BLOCK = 1000
"""Training images that are taken at once."""

HELD_OUT = 2000
"""Images held out that are looked at, at most."""

FEWEST = 50
"""Images, both of training and held out, below which nothing is said of a spectrum."""

STANDARD_ERRORS = 2.0


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The leading directions of training images.

    Args:
        values: eigenvalues of the covariance (divided by N) of all training images, descending, (K,), in float64.
        energy: squared projections of images held out on the eigenvectors, the training mean taken off, (M, K).
        is_whole: whether K = P, so that no direction is left out.
    """

    values: Tensor
    energy: Tensor
    is_whole: bool


def spectrum(subject: Subject, latent_dim: int) -> Spectrum:
    """The spectrum of all training images, and of images of the validation split, or of the test split without one.

    Args:
        subject: whose images.
        latent_dim: how many directions could be of use; where not all are computed, twice as many are.

    Raises:
        NoMeaning: if there are fewer than 50 images of either kind.
    """
    held_out = "val" if len(subject.splits["val"]) >= FEWEST else "test"
    fewest = min(len(subject.splits["train"]), len(subject.splits[held_out]))
    if fewest < FEWEST:
        raise NoMeaning(
            f"collapse: the linear theory predicts nothing: it takes {FEWEST} training images, and as many held out, "
            f"and there are {fewest}"
        )
    count = max(2 * latent_dim, FEWEST_DIRECTIONS) + SPARE
    mean, values, vectors = principal_directions(subject, count, "collapse: spectrum")
    seen = subject.map("collapse: images held out", lambda x: {"x": x.flatten(1)}, split=held_out, limit=HELD_OUT)["x"]
    return Spectrum(values, ((seen.double() - mean) @ vectors).square(), len(values) == len(mean))


def principal_directions(subject: Subject, count: int, task: str) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of all training images (P,), and eigenvalues (K,), descending, and -vectors (P, K) of their covariance.

    All of them, exactly, for no more than 1,024 pixels. For more, the `count` largest by randomised subspace iteration
    (Halko et al. 2011), which never holds a P x P matrix; approximate eigenvalues are at most as large as the exact.
    """
    pixels = math.prod(subject.model.shape)
    if pixels <= max(count, MOST_PIXELS):
        mean, small = covariance(subject, None, task)
        basis = torch.eye(pixels, dtype=torch.float64)
    else:
        with subject.random_state(task, 0):
            basis = torch.linalg.qr(torch.randn(pixels, count, dtype=torch.float64)).Q
        for _ in range(PASSES - 1):
            basis = torch.linalg.qr(covariance(subject, basis, task)[1]).Q
        mean, image = covariance(subject, basis, task)
        small = basis.T @ image
    values, vectors = torch.linalg.eigh((small + small.T) / 2)
    return mean, values.flip(0).clamp(min=0), (basis @ vectors).flip(1)


def covariance(subject: Subject, columns: Tensor | None, task: str) -> tuple[Tensor, Tensor]:
    """The mean of all training images (P,), and their covariance (P, P), or its product with `columns` (P, K).

    In float64, a block of images at a time, about the mean of the first block; processes share the blocks.
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


def units_worth_it(found: Spectrum, level: float) -> int:
    """How many leading directions are worth a unit each: of the optimum on training images, as far as it holds.

    On the training images a unit is worth it where lambda > theta, its eigenvalue above the water level. Where images
    are few, the largest of many eigenvalues are large by chance, and such a unit costs more than it gives on other
    images: with e the energy of an image along its direction, it lowers 2 sigma^2 (distortion + beta rate) by
    e (1 - theta / lambda) - theta log(lambda / theta), which is positive on average where e is lambda on average. So
    units beyond the number that is best for the images held out count only as long as the loss is within two standard
    errors: the images held out must contradict the training images to be believed against them.

    Args:
        found: the spectrum.
        level: theta = beta sigma^2, above 0.
    """
    above = int((found.values > level).sum())
    eigenvalues = found.values[:above]
    gains = found.energy[:, :above] * (1 - level / eigenvalues) - level * (eigenvalues / level).log()
    total = torch.cat([gains.new_zeros(len(gains), 1), gains.cumsum(dim=1)], dim=1)
    best = int(total.mean(dim=0).argmax())
    if best == above:
        return best
    lost = total[:, best : best + 1] - total[:, best + 1 :]
    refuted = lost.mean(dim=0) > STANDARD_ERRORS * lost.std(dim=0) / math.sqrt(len(lost))
    return best + int((~refuted).cumprod(dim=0).sum())
