"""A model that was trained for many settings, at each of them: its rates and distortions, and its images.

Shapes: N images, R rows, K columns, C H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nelbo.models import Model, Setting, settings_of
from nelbo.numerics.randomness import isolated
from nelbo.views.codes import modes
from nelbo.views.grids import ValueRange, grid

INK = "#222222"
LONGEST_LABEL = 5
"""The largest number of characters for which there is room below an image."""

COLOUR_RANGE = 0.92
"""The part of the colour map in use: its last yellow is hard to see on white."""

NAMES = {"beta": "beta", "latent_dim": "latents"}
BETA = "beta"


@dataclass(frozen=True)
class Point:
    """Rate and distortion at a setting, averages over images in nats.

    Args:
        setting: the setting.
        rate: KL(q(z|x) || p(z)).
        distortion: -log p(x|z).
    """

    setting: Setting
    rate: float
    distortion: float


def points(model: Model, x: Tensor, axes: Mapping[str, Sequence[float]], seed: int) -> list[Point]:
    """Return rate and distortion at all combinations of settings, with the same noise.

    Args:
        model: the model, in eval mode.
        x: images, (N, C, H, W), in [0, 1].
        axes: the values of each setting by name, as `axes_of` gives them.
        seed: of the noise.
    """
    results = []
    for setting in settings_of(axes):
        with isolated(seed), torch.no_grad():
            trace = model.at(**setting).trace(x, 1)
            results.append(Point(setting, float(trace.kl.mean()), float(-trace.log_px.mean())))
    return results


def plane(measured: Sequence[Point]) -> Figure:
    """Draw distortion against rate: a curve over beta for each number of latents.

    Args:
        measured: rate and distortion at each setting.
    """
    figure = Figure(figsize=(7, 4.6), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    lines: dict[float | None, list[Point]] = {}
    for point in measured:
        lines.setdefault(point.setting.get("latent_dim") if BETA in point.setting else None, []).append(point)
    for index, (latents, line) in enumerate(lines.items()):
        colour = colormaps["viridis"](COLOUR_RANGE * index / max(1, len(lines) - 1))
        label = f"{latents:g} latent{'s' * (latents != 1)}" if latents is not None else ""
        axes.plot(
            *zip(*[(point.rate, point.distortion) for point in line], strict=True),
            "o-",
            color=colour,
            label=label,
            markersize=4,
            linewidth=1.3,
        )
    name_ends(axes, list(lines.values())[-1])
    axes.set_xlabel("rate: KL(q(z|x) || p(z)), nats per image")
    axes.set_ylabel("distortion: −log p(x|z), nats per image")
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=9)
    return figure


def name_ends(axes: Axes, line: Sequence[Point]) -> None:
    """Write the settings of the first and last point of a curve beside them."""
    name = BETA if BETA in line[0].setting else "latent_dim"
    for point, place in ((line[0], (0, 8)), (line[-1], (6, 6))):
        text = f"{NAMES[name]}={point.setting[name]:g}"
        ends = (point.rate, point.distortion)
        axes.annotate(text, ends, xytext=place, textcoords="offset points", fontsize=9, color=INK)


def reconstructions(model: Model, x: Tensor, axes: Mapping[str, Sequence[float]]) -> Tensor:
    """Return the reconstructions of images at settings, (R, K, C, H, W).

    With two axes these are of the first image, with a row for each value of the first and a column for each of the
    second; with one, a row for each image.

    Args:
        model: the model, in eval mode.
        x: images, (N, C, H, W), in [0, 1].
        axes: the values of each setting by name.
    """
    with torch.no_grad():
        images = []
        for setting in settings_of(axes):
            bound = model.at(**setting)
            images.append(bound.decode(*modes(bound, x)).mean)
    return arranged(torch.stack(images), axes)


def samples(model: Model, count: int, axes: Mapping[str, Sequence[float]], seed: int) -> Tensor:
    """Return samples at settings, from the same z, (R, K, C, H, W), arranged as `reconstructions` are.

    Args:
        model: the model, in eval mode.
        count: the number of samples of a setting.
        axes: the values of each setting by name.
        seed: of z.
    """
    images = []
    for setting in settings_of(axes):
        with isolated(seed):
            images.append(model.at(**setting).generate(count).mean)
    return arranged(torch.stack(images), axes)


def arranged(images: Tensor, axes: Mapping[str, Sequence[float]]) -> Tensor:
    """Return images of settings in rows and columns, (R, K, C, H, W).

    Args:
        images: (settings, N, C, H, W).
        axes: the values of each setting by name.
    """
    if len(axes) == 1:
        return images.transpose(0, 1)
    first: Tensor = images[:, 0]
    return first.reshape(*(len(values) for values in axes.values()), *first.shape[1:])


def labelled(images: Tensor, axes: Mapping[str, Sequence[float]], values: ValueRange = None) -> Figure:
    """Draw images of settings, with the settings beside them.

    Args:
        images: (R, K, C, H, W), as `arranged` returns them.
        axes: the values of each setting by name.
        values: the values that are black and white; None for 0 and 1.
    """
    picture = grid(images, values=values).permute(1, 2, 0).numpy()
    rows, columns = images.shape[:2]
    across = list(axes)[-1]
    height, width = picture.shape[:2]
    labels = [f"{value:g}" for value in axes[across]]
    longest = max(map(len, labels))
    below = 0.8 + (0.085 * longest if longest > LONGEST_LABEL else 0.0)
    figure = Figure(figsize=(0.55 * columns + 1.1, 0.55 * rows * height / rows * columns / width + below), dpi=150)
    figure.set_layout_engine("constrained")
    panel = figure.add_subplot()
    panel.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
    places = [(place + 0.5) * width / columns for place in range(columns)]
    panel.set_xticks(places, labels, rotation=90 if longest > LONGEST_LABEL else 0)
    panel.set_xlabel(NAMES[across])
    if len(axes) > 1:
        down = next(iter(axes))
        panel.set_yticks([(place + 0.5) * height / rows for place in range(rows)], [f"{v:g}" for v in axes[down]])
        panel.set_ylabel(NAMES[down])
    else:
        panel.set_yticks([])
    panel.tick_params(length=0, labelsize=9)
    panel.spines[:].set_visible(False)
    return figure
