"""Cells that are linear VAEs, beside their exact answer.

Shapes: P pixels, D latent dimensions.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nelbo.errors import NelboError
from nelbo.sweeps.cells.values import is_number, select
from nelbo.sweeps.report.cell_table import Row

if TYPE_CHECKING:
    from nelbo.theory.spectrum import Spectrum
    from nelbo.theory.water_filling import Optimum

LEARNED = 0.0
"""Stands for the sigma of a model that learns it."""

SMALLEST_RATE = 0.1
"""Nats; a relative deviation from a rate below says nothing."""

POINTS = 60
IRRELEVANT = ("batch_size", "order_seed", "shuffle", "num_workers")
"""Of a data config: changes no image."""


@dataclass
class Curve:
    """The optima of one model over beta.

    Args:
        latent_dim: D.
        sigma: of the likelihood; `LEARNED` if it is learned.
        betas: ascending.
        points: the optimum at each.
    """

    latent_dim: int
    sigma: float
    betas: list[float]
    points: list[Optimum]


@dataclass
class Truth:
    """What is known exactly of a sweep.

    Args:
        curves: one for each number of latents and sigma.
        said: how far the cells are from it, in sentences.
        deviations: of each cell by its directory's name: `rate` and `error`, relative, or `distortion` in nats.
    """

    curves: list[Curve] = field(default_factory=list)
    said: str = ""
    deviations: dict[str, dict[str, float]] = field(default_factory=dict)


def is_linear(config: Mapping[str, Any]) -> bool:
    """Whether water-filling is the exact answer of this run."""
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
    """The exact answers of the finished linear cells; None if there are none.

    Args:
        rows: cells.
        allow: packages of one's own that may make their data.
    """
    linear = [row for row in rows if "test/kl" in row.metrics and is_linear(row.cell.config)]
    if not linear:
        return None
    found = Truth()
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
            found.curves.append(curve(images, latent_dim, sigma, betas))
            for row in members:
                found.deviations[row.cell.folder.name] = deviations(row, images, latent_dim, sigma)
    except (NelboError, OSError) as error:
        return Truth(said=f"These are linear VAEs, but their exact answer is not drawn: {error}.")
    found.said = sentence(found)
    return found


@functools.lru_cache(maxsize=8)
def spectrum_of(data: str, allow: tuple[str, ...] = ()) -> Spectrum:
    """The spectrum of the training images of a data config (as JSON), with the energy of its test images.

    Args:
        data: the config.
        allow: packages of one's own that may make the data.

    Raises:
        NelboError: if the data cannot be had, or its images are too large.
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
        module.present(split, module.splits[split].__getitems__(torch.arange(len(module.splits[split]))))[0].flatten(1)
        for split in ("train", "test")
    ]
    return spectrum(*images)


def exact(images: Spectrum, latent_dim: int, beta: float, sigma: float) -> Optimum:
    """The optimum on the test images; a sigma that is learned is at its fixed point."""
    from nelbo.theory.water_filling import learned_sigma2, optimum

    sigma2 = sigma**2 if sigma != LEARNED else learned_sigma2(images.values, latent_dim, beta)
    return optimum(images, latent_dim, beta, sigma2)


def curve(images: Spectrum, latent_dim: int, sigma: float, betas: Sequence[float]) -> Curve:
    """Optima between the smallest and the largest beta, evenly in log beta; every beta that was run is among them."""
    low, high = math.log(betas[0]), math.log(betas[-1])
    between = [math.exp(low + (high - low) * step / POINTS) for step in range(POINTS + 1)] if high > low else []
    dense = sorted({*between[1:-1], *betas})
    return Curve(latent_dim, sigma, dense, [exact(images, latent_dim, beta, sigma) for beta in dense])


def deviations(row: Row, images: Spectrum, latent_dim: int, sigma: float) -> dict[str, float]:
    """How far a cell is from its optimum on the test images.

    With a fixed sigma the squared error follows from the distortion. A learned one is known to the checkpoint only, so
    there the distortion itself is compared, in nats.
    """
    from nelbo.theory.water_filling import squared_error

    best = exact(images, latent_dim, float(row.cell.config["objective"]["beta"]), sigma)
    found = {}
    if best.rate >= SMALLEST_RATE:
        found["rate"] = row.metrics["test/kl"] / best.rate - 1
    if sigma == LEARNED:
        found["distortion"] = row.metrics["test/reconstruction"] - best.distortion
    else:
        error = squared_error(row.metrics["test/reconstruction"], len(images.values), sigma**2)
        found["error"] = error / best.error - 1
    return found


def sentence(found: Truth) -> str:
    """The largest deviations."""
    told = []
    for key, name in (("rate", "rate"), ("error", "squared error")):
        values = {cell: abs(all_of[key]) for cell, all_of in found.deviations.items() if key in all_of}
        if values:
            worst = max(values, key=values.__getitem__)
            told.append(f"{100 * values[worst]:.2f}% in {name} ({worst.rpartition('-')[0]})")
    if nats := [abs(all_of["distortion"]) for all_of in found.deviations.values() if "distortion" in all_of]:
        told.append(f"{max(nats):.2f} nats in distortion (learned sigma)")
    count = len(found.deviations)
    return f"Largest deviation of the {count} measured cells from the exact answer: {', '.join(told)}."
