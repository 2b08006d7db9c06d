"""The figure of the rate-distortion plane: KL (rate) against reconstruction (distortion)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nelbo.sweeps.report.beside import Beside, draw_curves
from nelbo.sweeps.report.best import best_setting, selection_criterion
from nelbo.sweeps.report.cell_table import Group, SweepTable, pareto
from nelbo.sweeps.report.formatting import describe_values, format_number
from nelbo.sweeps.report.linear import LEARNED, Truth
from nelbo.sweeps.report.metric_names import KL, NAMES, RECONSTRUCTION, value_range
from nelbo.sweeps.report.scales import GREY, INK, SMALL, VERMILION, Picture, Scale, limits, new_figure, remove_frame

MOST_LINES = 12
MANY = 150
"""The number of points beyond which they are drawn small."""

RING: dict[str, Any] = {
    "markersize": 15,
    "markerfacecolor": "none",
    "markeredgecolor": VERMILION,
    "markeredgewidth": 2,
}
"""The style of the circle around the best setting."""

CANDIDATES = np.linspace(0.06, 0.94, 23)
"""Positions along a line of equal negative ELBO at which its label may be placed, as a fraction of its length."""

CLEARANCE = 0.05
"""The smallest distance between a label and any point, in widths of the axes."""


def rate_distortion(
    table: SweepTable, scale: Scale, truth: Truth | None, beside: Beside | None = None
) -> Picture | None:
    """Draw distortion against rate, a point per setting; None if no cell has both.

    Args:
        table: cells that are comparable with each other.
        scale: the colours and markers of settings.
        truth: the exact answers of linear cells; None if there are none.
        beside: one training for many settings that is compared with the cells; None if there is none.
    """
    groups = [g for g in table.groups if g.mean(KL) is not None and g.mean(RECONSTRUCTION) is not None]
    if not groups:
        return None
    points = np.array([(group.mean(KL), group.mean(RECONSTRUCTION)) for group in groups])
    errors = np.array([(group.sd(KL) or 0.0, group.sd(RECONSTRUCTION) or 0.0) for group in groups])
    figure = new_figure(9, 6)
    axes = figure.add_subplot()
    remove_frame(axes)
    axes.set_xlim(*limits([*(points - errors)[:, 0], *(points + errors)[:, 0]]))
    axes.set_ylim(*limits([*(points - errors)[:, 1], *(points + errors)[:, 1]]))
    if truth and truth.curves:
        draw_truth(axes, truth)
    elif not beside:
        join(axes, groups, scale)
    if beside:
        draw_curves(axes, beside)
    draw_points(axes, groups, points, errors, scale)
    front = pareto([(float(x), float(y)) for x, y in points])
    dashed: dict[str, Any] = {"color": INK, "linewidth": 1.1, "linestyle": "--", "zorder": 2.5}
    axes.step(*points[front].T, where="post", label="Pareto front", **dashed)
    best = best_setting(table)
    best_index = next((index for index, group in enumerate(groups) if group is best), None)
    if best_index is not None:
        axes.plot(*points[best_index], "o", label="best setting", **RING)
    figure.draw_without_rendering()
    draw_iso_elbo(axes, points)
    axes.set_xlabel("rate: KL(q(z|x) || p(z)), nats per image")
    axes.set_ylabel("distortion: −log p(x|z), nats per image")
    axes.legend(loc="upper right", fontsize=SMALL, framealpha=0.9, edgecolor="none")
    scale.add_legend(axes)
    caption = [
        f"Test images; {len(groups)} settings.",
        "With several seeds, a point is their mean and its bars are one standard deviation long on each side.",
        "Down and left is better. Grey lines: equal negative ELBO (rate + distortion), labelled with its value.",
        f"Dashed: the Pareto front of {len(front)} setting{'s' * (len(front) != 1)} that no other improves on in both.",
    ]
    if best is not None and best_index is not None:
        caption.append(
            f"Circle: the best setting, {describe_values(best.values)}, chosen by {selection_criterion(best)}; "
            f"its rate + distortion is {format_number(float(points[best_index].sum()))} nats."
        )
    if truth:
        caption.append(explain_truth(truth, visible=is_visible(axes, truth)))
    if beside:
        caption.append(beside.curves_caption)
    return Picture("rate_distortion", "Rate and distortion", " ".join(caption), describe(table, len(groups)), figure)


def describe(table: SweepTable, count: int) -> str:
    """Return the text that stands for the figure where it is not shown.

    Args:
        table: the cells.
        count: the number of settings in the figure.
    """
    ranges = "; ".join(f"{NAMES[metric]} from {value_range(table, metric)}" for metric in (KL, RECONSTRUCTION))
    return f"Distortion against rate of {count} setting{'s' * (count != 1)}, in nats per image: {ranges}."


def draw_points(axes: Axes, groups: Sequence[Group], points: np.ndarray, errors: np.ndarray, scale: Scale) -> None:
    """Draw a point with error bars for each setting."""
    size = 7 if len(groups) <= MANY else 3.5
    for group, (x, y), (dx, dy) in zip(groups, points, errors, strict=True):
        if dx or dy:
            axes.errorbar(x, y, xerr=dx, yerr=dy, color=GREY, linewidth=0.8, capsize=2, zorder=2)
        style: dict[str, Any] = {"markeredgecolor": INK, "markeredgewidth": 0.5, "markersize": size, "zorder": 3}
        axes.plot(x, y, scale.marker_of(group), color=scale.colour_of(group), **style)


def join(axes: Axes, groups: Sequence[Group], scale: Scale) -> None:
    """Draw thin lines through the settings that differ only in the axis shown by colours."""
    if scale.colour is None or not scale.colour.numeric:
        return
    lines: dict[str, list[Group]] = {}
    for group in groups:
        rest = {key: value for key, value in group.values.items() if key != scale.colour.key}
        lines.setdefault(describe_values(rest), []).append(group)
    if len(lines) > MOST_LINES:
        return
    for line in lines.values():
        points = np.array([(group.mean(KL), group.mean(RECONSTRUCTION)) for group in line])
        axes.plot(*points.T, color=GREY, linewidth=0.8, zorder=1)


def draw_truth(axes: Axes, truth: Truth) -> None:
    """Draw a curve of exact optima for each number of latents and sigma; a cross where it is a single point."""
    for index, curve in enumerate(truth.curves):
        points = np.array([(point.rate, point.distortion) for point in curve.points])
        style: dict[str, Any] = {"linewidth": 2.2, "alpha": 0.75, "zorder": 1.5, "solid_capstyle": "round"}
        axes.plot(*points.T, color=VERMILION, label="" if index else "exact answer", **style)
        if len(points) == 1:
            axes.plot(*points.T, "x", color=VERMILION, markersize=11)


def is_visible(axes: Axes, truth: Truth) -> bool:
    """Return whether an exact optimum is within the axes, whose limits are those of the measured points."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    points = [point for curve in truth.curves for point in curve.points]
    return any(left <= point.rate <= right and bottom <= point.distortion <= top for point in points)


def explain_truth(truth: Truth, *, visible: bool) -> str:
    """Return the part of the caption that explains the exact answers.

    Args:
        truth: the exact answers.
        visible: whether any of them is within the axes.
    """
    if not truth.curves:
        return truth.summary
    latents = ", ".join(str(latent) for latent in sorted({curve.latent_dim for curve in truth.curves}))
    learned = any(curve.sigma == LEARNED for curve in truth.curves)
    return (
        f"Orange{'' if visible else ' (outside the figure)'}: the exact optimum of a linear beta-VAE with {latents} "
        "latents as beta varies over the swept range (Shannon's reverse water-filling with the spectrum of the "
        "training images, evaluated on the test images"
        f"{'; a learned sigma is at its fixed point' if learned else ''}). {truth.summary}"
    )


def draw_iso_elbo(axes: Axes, points: np.ndarray) -> None:
    """Draw lines of equal rate + distortion, labelled where a label overlaps neither a point nor another label.

    Args:
        axes: where to draw, with its final limits.
        points: rate and distortion of the settings, (N, 2).
    """
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
        text = axes.text(x, y, format_number(float(level)), color=GREY, fontsize=SMALL, zorder=0.6)
        text.set(rotation=angle, rotation_mode="anchor", ha="center", va="center")
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})


def clearance(spot: np.ndarray, occupied: Sequence[tuple[float, ...]], aspect: float) -> float:
    """Return the distance from a position to the nearest occupied one, in widths of the axes.

    Args:
        spot: the position, as fractions of the axes' width and height, (2,).
        occupied: the occupied positions, likewise.
        aspect: height of the axes divided by their width.
    """
    return float(np.hypot(*((np.array(occupied) - spot) * (1, aspect)).T).min())
