"""Posterior collapse in models with several levels of latents, by KL.

Units are numbered from 0 within their level, and levels from 1, the top. Shapes: N images, U units of one level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nelbo.evaluation.measure import Findings, Subject
from nelbo.metrics.collapse import NEGLIGIBLE_KL
from nelbo.trace import Latent


def ranges(units: Sequence[int]) -> str:
    """Return ascending numbers in short form.

    Example:
        >>> ranges([3, 7, 8, 9])
        '3, 7-9'
    """
    runs: list[list[int]] = []
    for unit in units:
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def named(units: Sequence[int], sizes: Sequence[int]) -> str:
    """Return the names of units of several levels.

    Args:
        units: ascending numbers of units, counted through all levels.
        sizes: number of units of each level, top first.

    Example:
        >>> named([5, 10, 12, 13], sizes=[5, 5, 10])
        'level 2 unit 0 and level 3 units 0, 2-3'
    """
    parts, first = [], 0
    for level, size in enumerate(sizes, 1):
        if own := [unit - first for unit in units if first <= unit < first + size]:
            parts.append(f"level {level} {'unit' if len(own) == 1 else 'units'} {ranges(own)}")
        first += size
    return " and ".join(parts)


def mean_kls(subject: Subject, limit: int | None) -> tuple[list[float], list[Tensor | None]]:
    """Return the KL of each level, and of the units of each level, averaged over images, in nats.

    Args:
        subject: has several levels.
        limit: largest number of images; None for all.

    Returns:
        The KLs of the levels, and for each level the KLs of its units, (U,), in float64; None for a level whose units
        depend on each other in q or p, so that only their joint KL is defined.
    """

    def unit_kl(latent: Latent) -> Tensor | None:
        try:
            return latent.unit_kl
        except NotImplementedError:
            return None

    @torch.no_grad()
    def measure(x: Tensor) -> dict[str, Tensor]:
        values = {}
        trace = subject.model.trace(x)
        for level, latent in enumerate(trace.latents):
            values[f"level {level}"] = trace.over_samples(latent.kl)
            if (units := unit_kl(latent)) is not None:
                values[f"units {level}"] = units
        return values

    means = {key: values.double().mean(dim=0) for key, values in subject.map("collapse", measure, limit=limit).items()}
    levels = range(len(subject.model.events))
    return [means[f"level {level}"].item() for level in levels], [means.get(f"units {level}") for level in levels]


def measure_by_level(subject: Subject, limit: int | None, threshold: float) -> tuple[Findings, list[int]]:
    """Return the KL of each unit by level, which units are inactive, and which levels are dead.

    A unit is inactive if its KL is below the threshold. The variance of its mean, by which Burda et al. (2016) decide,
    would not show it: below the top level the mean also varies with the levels above.

    Args:
        subject: has several levels.
        limit: largest number of images; None for all.
        threshold: in nats.

    Returns:
        The findings, and the numbers of the inactive units, counted through all levels.
    """
    sizes = [event[0] for event in subject.model.events]
    kls, unit_kls = mean_kls(subject, limit)
    findings, inactive, first, known = Findings(), [], 0, 0
    texts = []
    for level, (size, units) in enumerate(zip(sizes, unit_kls, strict=True), 1):
        if units is None:
            findings.warnings.append(
                f"collapse: the units of level {level} depend on each other in q or p, so only their joint KL is known"
            )
        else:
            texts.append(f"level {level}: {' '.join(f'{value:.3f}' for value in units.tolist())}")
            inactive += (first + (units < threshold).nonzero().flatten()).tolist()
            known += size
        first += size
    dead = [level for level, kl in enumerate(kls, 1) if kl < NEGLIGIBLE_KL]
    findings.values |= {
        "kl_per_unit": "; ".join(texts),
        "collapse_active_units": known - len(inactive),
        "collapse_units": known,
        "collapse_inactive": named(inactive, sizes) or "none",
        "collapse_dead_levels": ranges(dead) or "none",
    }
    findings.warnings += [f"collapse: level {level} is dead: KL {kls[level - 1]:.2f} nats" for level in dead]
    from nelbo.views.units import draw_levels  # imports matplotlib

    findings.pictures["collapse"] = draw_levels(kls, unit_kls, threshold)
    return findings, inactive
