"""Linear VAEs among the cells of a sweep, compared with their exact optimum.

Shapes: P pixels, D latent dimensions.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nelbo.config.keys import select
from nelbo.errors import NelboError
from nelbo.sweeps.cells.values import is_number
from nelbo.sweeps.report.cell_table import Row
from nelbo.sweeps.report.metric_names import KL, RECONSTRUCTION

if TYPE_CHECKING:
    from nelbo.theory.spectrum import Spectrum
    from nelbo.theory.water_filling import Optimum

LEARNED = 0.0
"""The value of sigma that stands for a learned one."""

SMALLEST_RATE = 0.1
"""The smallest rate, in nats, for which a relative deviation is meaningful."""

POINTS = 60
"""The number of steps of a curve over beta."""

IRRELEVANT = ("batch_size", "order_seed", "shuffle", "num_workers")
"""The keys of a data config that do not change any image."""


@dataclass
class Curve:
    """The exact optima of one model over beta.

    Args:
        latent_dim: D.
        sigma: the standard deviation of the likelihood; `LEARNED` if it is learned.
        betas: in ascending order.
        points: the optimum at each beta.
    """

    latent_dim: int
    sigma: float
    betas: list[float]
    points: list[Optimum]


@dataclass
class Truth:
    """The exact answers of the linear VAEs of a sweep.

    Args:
        curves: one for each data set, number of latents and sigma.
        summary: how far the cells are from the optima, or why there are none, in a sentence.
        deviations: by the directory name of each cell: those of `rate` and squared `error`, relative, or of
            `distortion`, in nats.
    """

    curves: list[Curve] = field(default_factory=list)
    summary: str = ""
    deviations: dict[str, dict[str, float]] = field(default_factory=dict)


def is_linear(config: Mapping[str, Any]) -> bool:
    """Return whether reverse water-filling gives the exact optimum of a run with this config."""
    targets = {
        "model": ("nelbo.models.VAE",),
        "model.encoder": ("nelbo.nets.MLP",),
        "model.decoder": ("nelbo.nets.MLP",),
        "model.prior": ("nelbo.priors.StandardNormal",),
        "model.posterior": ("nelbo.heads.DiagonalNormalPosterior",),
        "model.likelihood": ("nelbo.heads.FixedGaussian", "nelbo.heads.LearnedGaussian"),
        "objective": ("nelbo.objectives.NegativeELBO",),
    }
    beta, sigma = select(config, "objective.beta"), select(config, "model.likelihood.sigma")
    augment = {key: value for key, value in (select(config, "data.augment") or {}).items() if key != "_target_"}
    return (
        all(select(config, f"{key}._target_") in allowed for key, allowed in targets.items())
        and not select(config, "model.encoder.hidden")
        and not select(config, "model.decoder.hidden")
        and is_number(beta)
        and beta > 0
        and (sigma is None or is_number(sigma))
        and select(config, "data.protocol") == "raw"
        and not any(augment.values())
    )


def truth(rows: Sequence[Row], allow: Sequence[str] = ()) -> Truth | None:
    """Return the exact answers of the finished linear cells; None if there are none.

    Args:
        rows: the cells.
        allow: prefixes of the user's own packages whose classes a data config may name.
    """
    linear = [row for row in rows if KL in row.metrics and is_linear(row.cell.config)]
    if not linear:
        return None
    answers = Truth()
    families: dict[tuple[str, int, float], list[Row]] = {}
    for row in linear:
        config = row.cell.config
        plain = {key: value for key, value in config["data"].items() if key not in IRRELEVANT}
        sigma = float(select(config, "model.likelihood.sigma") or LEARNED)
        families.setdefault((json.dumps(plain, sort_keys=True), config["model"]["latent_dim"], sigma), []).append(row)
    try:
        for (data, latent_dim, sigma), members in families.items():
            images = spectrum_of(data, tuple(allow))
            betas = sorted({float(row.cell.config["objective"]["beta"]) for row in members})
            answers.curves.append(curve(images, latent_dim, sigma, betas))
            for row in members:
                answers.deviations[row.cell.folder.name] = deviations(row, images, latent_dim, sigma)
    except (NelboError, OSError) as error:
        return Truth(summary=f"These are linear VAEs, but their exact answer is not drawn: {error}.")
    answers.summary = summarize(answers.deviations)
    return answers


@functools.lru_cache(maxsize=8)
def spectrum_of(data: str, allow: tuple[str, ...] = ()) -> Spectrum:
    """Return the spectrum of the training images of a data config, with the energy of its test images.

    Args:
        data: the config as JSON.
        allow: prefixes of the user's own packages whose classes the config may name.

    Raises:
        NelboError: if the data are not available, or their images are too large.
    """
    import torch

    from nelbo.config.build import RUN_PREFIXES, build, user_prefixes
    from nelbo.theory.spectrum import MAX_PIXELS, spectrum

    plain = json.loads(data) | {"batch_size": 1, "order_seed": 0, "shuffle": False, "num_workers": 0}
    module = build(plain, "data", (*RUN_PREFIXES, *user_prefixes("allow_targets", allow)))
    module.setup()
    pixels = math.prod(module.shape)
    if pixels > MAX_PIXELS:
        raise NelboError(f"{pixels} pixels are more than the {MAX_PIXELS} for which eigenvectors are computed")
    images = [
        module.present(split, module.splits[split].__getitems__(torch.arange(len(module.splits[split])))).x.flatten(1)
        for split in ("train", "test")
    ]
    return spectrum(*images)


def exact(images: Spectrum, latent_dim: int, beta: float, sigma: float) -> Optimum:
    """Return the optimum, evaluated on the test images; a learned sigma is at its fixed point."""
    from nelbo.theory.water_filling import learned_sigma2, optimum

    sigma2 = sigma**2 if sigma != LEARNED else learned_sigma2(images.values, latent_dim, beta)
    return optimum(images, latent_dim, beta, sigma2)


def curve(images: Spectrum, latent_dim: int, sigma: float, betas: Sequence[float]) -> Curve:
    """Return the optima at the given betas, and at betas between the first and the last, evenly in log beta."""
    low, high = math.log(betas[0]), math.log(betas[-1])
    between = [math.exp(low + (high - low) * step / POINTS) for step in range(POINTS + 1)] if high > low else []
    dense = sorted({*between[1:-1], *betas})
    return Curve(latent_dim, sigma, dense, [exact(images, latent_dim, beta, sigma) for beta in dense])


def deviations(row: Row, images: Spectrum, latent_dim: int, sigma: float) -> dict[str, float]:
    """Return how far a cell is from its optimum on the test images.

    With a fixed sigma, the squared error is computed from the distortion and compared. A learned sigma is stored only
    in the checkpoint, so the distortion itself is compared.

    Returns:
        `rate` and `error`, relative, or `distortion`, in nats.
    """
    from nelbo.theory.water_filling import squared_error

    best = exact(images, latent_dim, float(row.cell.config["objective"]["beta"]), sigma)
    differences = {}
    if best.rate >= SMALLEST_RATE:
        differences["rate"] = row.metrics[KL] / best.rate - 1
    if sigma == LEARNED:
        differences["distortion"] = row.metrics[RECONSTRUCTION] - best.distortion
    else:
        error = squared_error(row.metrics[RECONSTRUCTION], len(images.values), sigma**2)
        differences["error"] = error / best.error - 1
    return differences


def summarize(deviations: Mapping[str, Mapping[str, float]]) -> str:
    """Return the largest deviations from the optima as a sentence.

    Args:
        deviations: those of each cell, by its directory name.
    """
    largest = []
    for key, name in (("rate", "rate"), ("error", "squared error")):
        sizes = {cell: abs(values[key]) for cell, values in deviations.items() if key in values}
        if sizes:
            worst = max(sizes, key=sizes.__getitem__)
            largest.append(f"{100 * sizes[worst]:.2f}% in {name} ({worst.rpartition('-')[0]})")
    if nats := [abs(values["distortion"]) for values in deviations.values() if "distortion" in values]:
        largest.append(f"{max(nats):.2f} nats in distortion (learned sigma)")
    count = len(deviations)
    return f"Largest deviation of the {count} measured cells from the exact answer: {', '.join(largest)}."
