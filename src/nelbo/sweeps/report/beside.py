"""One training for many settings beside the cells of a sweep: its curves over their points, and the regret of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nelbo.files import read_json, write_json
from nelbo.sweeps.report.formatting import describe_values, format_number
from nelbo.sweeps.report.scales import (
    BETA,
    GREY,
    INK,
    LATENTS,
    MARKERS,
    PALETTE,
    PURPLE,
    SMALL,
    Picture,
    format_log_axis,
    new_figure,
    remove_frame,
)

BESIDE = "beside.json"
"""The file in a sweep's directory with the comparison."""

COLOUR = PURPLE
"""The colour of curves of the one training."""


@dataclass(frozen=True)
class Regret:
    """The regret of one training at the setting of a cell, in nats per image.

    Args:
        cell: the name of the cell's directory.
        identity: the digest of its config.
        setting: the values of the setting, by config key.
        value: reconstruction + beta KL of the one training less that of the cell, divided by the larger of 1 and beta.
        error: its standard error over images.
        rate: KL of the one training.
        distortion: its -log p(x|z).
        cell_rate: KL of the cell.
        cell_distortion: its -log p(x|z).
    """

    cell: str
    identity: str
    setting: Mapping[str, float]
    value: float
    error: float
    rate: float
    distortion: float
    cell_rate: float
    cell_distortion: float


@dataclass(frozen=True)
class Curve:
    """Rates and distortions of the one training.

    Args:
        latent_dim: the number of latents; None if it is that of all cells.
        points: rate and distortion at ascending betas (or numbers of latents), in nats.
    """

    latent_dim: float | None
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Beside:
    """The comparison of one training with the cells of a sweep.

    Args:
        run: the directory of the training.
        seconds: CPU seconds of the training; None if unknown.
        cell_seconds: those of all compared cells together.
        regrets: of each compared cell.
        curves: of the training.
        left_out: the number of cells with a setting that the training was not for.
        images: the number of test images of the regrets.
        curve_images: that of the curves.
    """

    run: str
    seconds: float | None
    cell_seconds: float | None
    regrets: Sequence[Regret]
    curves: Sequence[Curve]
    left_out: int
    images: int
    curve_images: int

    @classmethod
    def read(cls, sweep: Path) -> Beside | None:
        """Read the comparison of a sweep; None if there is none."""
        stored = read_json(sweep / BESIDE)
        if not stored:
            return None
        regrets = tuple(Regret(**entry) for entry in stored.pop("regrets"))
        curves = tuple(Curve(entry["latent_dim"], entry["points"]) for entry in stored.pop("curves"))
        return cls(regrets=regrets, curves=curves, **stored)

    def write(self, sweep: Path) -> None:
        """Write the comparison into the directory of a sweep."""
        write_json(sweep / BESIDE, dataclasses.asdict(self))

    def of_cells(self, identities: Collection[str]) -> Beside | None:
        """Return the comparison with those cells that are still what they were; None if there are none."""
        regrets = tuple(regret for regret in self.regrets if regret.identity in identities)
        if len(regrets) == len(self.regrets):
            return self
        return replace(self, regrets=regrets, cell_seconds=None) if regrets else None

    @property
    def curves_caption(self) -> str:
        """What the curves in the rate-distortion plane are."""
        line = "Purple: one training for all settings"
        if len(self.curves) > 1 or self.curves[0].latent_dim is not None:
            line += ", over beta, a line for each number of latents"
        return f"{line}; {self.curve_images:,} test images."

    @property
    def summary(self) -> str:
        """The comparison in sentences."""
        values = [regret.value for regret in self.regrets]
        worst = max(self.regrets, key=lambda regret: regret.value)
        text = (
            f"One training for all settings, {self.run}, beside {len(values)} trainings of one setting each: its "
            f"regret is {signed(fmean(values))} nats on average and {signed(worst.value)} at most "
            f"({describe_values(worst.setting)}), on {self.images:,} test images."
        )
        if self.seconds and self.cell_seconds:
            text += (
                f" It took {self.seconds:,.0f} CPU seconds; these {len(values)} trainings took "
                f"{self.cell_seconds:,.0f}, {self.cell_seconds / self.seconds:.1f} times as many."
            )
        if self.left_out:
            text += f" {self.left_out} cells have settings that it was not trained for."
        return text


def signed(value: float) -> str:
    """Return a number with its sign.

    Example:
        >>> signed(0.123), signed(-2.0)
        ('+0.12', '−2')
    """
    return ("+" if value > 0 else "") + format_number(value)


def draw_curves(axes: Axes, beside: Beside) -> None:
    """Draw the curves of the one training into the rate-distortion plane."""
    for index, curve in enumerate(beside.curves):
        points = np.array(curve.points)
        style: dict[str, Any] = {"color": COLOUR, "linewidth": 2.0, "alpha": 0.8, "zorder": 1.6}
        axes.plot(*points.T, label="" if index else "one training", **style)


def regrets_picture(beside: Beside) -> Picture:
    """Draw the regret of each setting against beta, or the number of latents, with its standard error."""
    betas = {regret.setting.get(BETA) for regret in beside.regrets} - {None}
    has_latents = all(LATENTS in regret.setting for regret in beside.regrets)
    key = LATENTS if has_latents and len(betas) < 2 else BETA
    other = LATENTS if key == BETA else BETA
    groups: dict[float | None, list[Regret]] = {}
    for regret in sorted(beside.regrets, key=lambda regret: regret.setting.get(key, 0.0)):
        groups.setdefault(regret.setting.get(other), []).append(regret)
    figure = new_figure(7.5, 3.6)
    axes = figure.add_subplot()
    remove_frame(axes)
    axes.axhline(0, color=GREY, linewidth=0.8)
    for index, (value, members) in enumerate(sorted(groups.items(), key=lambda item: item[0] or 0.0)):
        label = "" if value is None else f"{other}={value:g}"
        axes.errorbar(
            [regret.setting.get(key, 0.0) for regret in members],
            [regret.value for regret in members],
            yerr=[regret.error for regret in members],
            fmt=f"{MARKERS[index % len(MARKERS)]}-",
            color=INK if len(groups) == 1 else PALETTE[index % len(PALETTE)],
            linewidth=1.0,
            markersize=5,
            capsize=2,
            label=label,
        )
    axes.set_xscale("log")
    format_log_axis(axes.xaxis)
    axes.set_xlabel(key)
    axes.set_ylabel("regret, nats per image")
    if len(groups) > 1:
        axes.legend(frameon=False, fontsize=SMALL, loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        f"{beside.summary} Regret: reconstruction + beta KL of the one training less that of the training of the "
        "setting alone, divided by the larger of 1 and beta; below 0 the one training is better. Bars: one standard "
        "error over images, on each side."
    )
    low, high = (format_number(choose(regret.value for regret in beside.regrets)) for choose in (min, max))
    description = f"Regret of one training for all settings against {key}: from {low} to {high} nats per image."
    return Picture("regret", "One training for all settings", caption, description, figure)
