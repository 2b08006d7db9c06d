"""The rate-distortion plane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nelbo.sweeps.report.best import best_setting, judged_by
from nelbo.sweeps.report.cell_table import Group, SweepTable, pareto
from nelbo.sweeps.report.linear import LEARNED, Truth
from nelbo.sweeps.report.results_file import DISTORTION, RATE
from nelbo.sweeps.report.scales import GREY, INK, Picture, Scale, digits, limits, new_figure, place, plain

MOST_LINES = 12
MANY = 150
"""Points, beyond which they are drawn small."""

CANDIDATES = np.linspace(0.06, 0.94, 23)
"""Where along an iso-ELBO line its label may stand."""

CLEARANCE = 0.05
"""Of the axes' width: how far a label stays from every point."""


def rate_distortion(table: SweepTable, scale: Scale, truth: Truth | None) -> Picture | None:
    """Rate against distortion, a point for all seeds of a setting; None if no cell has both."""
    groups = [group for group in table.groups if group.mean(RATE) is not None and group.mean(DISTORTION) is not None]
    if not groups:
        return None
    points = np.array([(group.mean(RATE), group.mean(DISTORTION)) for group in groups])
    errors = np.array([(group.sd(RATE) or 0.0, group.sd(DISTORTION) or 0.0) for group in groups])
    figure = new_figure(9, 6)
    axes = figure.add_subplot()
    plain(axes)
    axes.set_xlim(*limits([*(points - errors)[:, 0], *(points + errors)[:, 0]]))
    axes.set_ylim(*limits([*(points - errors)[:, 1], *(points + errors)[:, 1]]))
    if truth and truth.curves:
        draw_truth(axes, truth)
    else:
        join(axes, groups, scale)
    size = 7 if len(groups) <= MANY else 3.5
    for group, (x, y), (dx, dy) in zip(groups, points, errors, strict=True):
        if dx or dy:
            axes.errorbar(x, y, xerr=dx, yerr=dy, color=GREY, linewidth=0.8, capsize=2, zorder=2)
        style: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 0.5, "markersize": size, "zorder": 3}
        axes.plot(x, y, scale.marker_of(group), color=scale.colour_of(group), **style)
    front = pareto([(float(x), float(y)) for x, y in points])
    axes.step(
        *points[front].T, where="post", color=INK, linewidth=1.1, linestyle="--", zorder=2.5, label="Pareto front"
    )
    best = best_setting(table)
    place_of_best = next((index for index, group in enumerate(groups) if group is best), None)
    if place_of_best is not None:
        ring: dict[str, Any] = {"markersize": 15, "markerfacecolor": "none", "markeredgecolor": "crimson"}
        axes.plot(*points[place_of_best], "o", label="best setting", **ring)
    figure.draw_without_rendering()
    iso_elbo(axes, points)
    axes.set_xlabel("rate: KL(q(z|x) || p(z)), nats per image")
    axes.set_ylabel("distortion: −log p(x|z), nats per image")
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    scale.explain(axes)
    told = [
        f"Test images; {len(groups)} settings.",
        "Where there are several seeds: their mean, with bars of one standard deviation.",
        "Down and left is better. Grey lines: equal negative ELBO (rate + distortion), labelled with it.",
        f"Dashed: the Pareto front, {len(front)} settings that no other beats in both.",
    ]
    if best is not None and place_of_best is not None:
        told.append(
            f"Ringed: the best setting, {place(best.values)}, chosen by {judged_by(best)}; "
            f"its rate + distortion is {digits(float(points[place_of_best].sum()))} nats."
        )
    if truth:
        told.append(explain_truth(truth))
    return Picture("rate_distortion", "Rate and distortion", " ".join(told), figure)


def join(axes: Axes, groups: Sequence[Group], scale: Scale) -> None:
    """Thin lines through the settings that differ in the coloured axis only."""
    if scale.colour is None or not scale.colour.numeric:
        return
    lines: dict[str, list[Group]] = {}
    for group in groups:
        rest = {key: value for key, value in group.values.items() if key != scale.colour.key}
        lines.setdefault(place(rest), []).append(group)
    if len(lines) > MOST_LINES:
        return
    for line in lines.values():
        axes.plot(*np.array([(g.mean(RATE), g.mean(DISTORTION)) for g in line]).T, color=GREY, linewidth=0.8, zorder=1)


def draw_truth(axes: Axes, truth: Truth) -> None:
    """A curve for each number of latents, its name at its end of highest rate that is in sight."""
    for index, curve in enumerate(truth.curves):
        points = np.array([(point.rate, point.distortion) for point in curve.points])
        style: dict[str, Any] = {"linewidth": 2.2, "alpha": 0.75, "zorder": 1.5, "solid_capstyle": "round"}
        axes.plot(*points.T, color="#d98c5f", label="" if index else "exact answer", **style)
        if len(points) == 1:
            axes.plot(*points.T, "x", color="#d98c5f", markersize=11)


def explain_truth(truth: Truth) -> str:
    """What the curves are."""
    if not truth.curves:
        return truth.said
    latents = ", ".join(str(latent) for latent in sorted({curve.latent_dim for curve in truth.curves}))
    learned = any(curve.sigma == LEARNED for curve in truth.curves)
    return (
        f"Orange: the exact optimum of a linear beta-VAE with {latents} latents as beta varies over the swept range "
        "(Shannon's reverse water-filling with the spectrum of the training images, evaluated on the test images"
        f"{'; a learned sigma is at its fixed point' if learned else ''}). {truth.said}"
    )


def iso_elbo(axes: Axes, points: np.ndarray) -> None:
    """Lines of equal rate + distortion inside the axes; a label stands where it meets neither a point nor a label."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    corner = np.array([left, bottom])
    extent = np.array([right - left, top - bottom])
    occupied = [tuple(point) for point in (points - corner) / extent]
    width, height = axes.bbox.width, axes.bbox.height
    angle = -np.degrees(np.arctan2(height / extent[1], width / extent[0]))
    for level in MaxNLocator(8).tick_values(left + bottom, right + top):
        start, end = max(left, level - top), min(right, level - bottom)
        if end - start <= 0.05 * extent[0]:
            continue
        axes.plot([start, end], [level - start, level - end], color="#cfcfcf", linewidth=0.7, zorder=0.5)
        along = start + (end - start) * CANDIDATES
        spots = (np.stack([along, level - along], 1) - corner) / extent
        inside = ((spots > 0.05) & (spots < 0.95)).all(1) & ~((spots > (0.7, 0.8)).all(1))  # the legend's corner
        room = np.array(
            [clearance(spot, occupied, height / width) if ok else 0 for spot, ok in zip(spots, inside, strict=True)]
        )
        if room.max() < CLEARANCE:
            continue
        spot = spots[int(room.argmax())]
        occupied.append((float(spot[0]), float(spot[1])))
        x, y = (float(number) for number in corner + spot * extent)
        text = axes.text(x, y, digits(float(level)), color="#8f8f8f", fontsize=8, zorder=0.6)
        text.set(rotation=angle, rotation_mode="anchor", ha="center", va="center")
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})


def clearance(spot: np.ndarray, occupied: Sequence[tuple[float, ...]], aspect: float) -> float:
    """The distance to what is nearest, in widths of the axes."""
    return float(np.hypot(*((np.array(occupied) - spot) * (1, aspect)).T).min())
