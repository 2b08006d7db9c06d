"""Grids of images on a white page, with a title and labels.

Shapes: C H W image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 100
MARGIN, NARROWEST = 14, 420
"""Margin and smallest width of a page, in pixels."""

TITLE, LABEL = 11, 9
"""Font sizes, in points."""


class Sheet:
    """A page, or a part of one, with space for a picture, which is pasted without resampling.

    The page is drawn once and can be used for many pictures, such as the frames of a moving picture.

    Args:
        size: (height, width) of the picture.
        title: text above the picture, wrapped to the page; may be empty.
        rows: labels on its left, evenly spaced over its height.
        columns: labels above it, evenly spaced over its width.
    """

    def __init__(
        self, size: tuple[int, int], title: str, *, rows: Sequence[str] = (), columns: Sequence[str] = ()
    ) -> None:
        height, width = size
        pen = _Pen()
        beside = max((pen.width(line, LABEL) for row in rows for line in row.splitlines()), default=0)
        beside += MARGIN // 2 if beside else 0
        page_width = max(beside + width + 2 * MARGIN, NARROWEST)
        lines = pen.wrap(title, TITLE, page_width - 2 * MARGIN) if title else []
        top = MARGIN + len(lines) * pen.line(TITLE) + MARGIN // 2 if title else 0
        top += pen.line(LABEL) if any(columns) else 0
        left = beside + (page_width - beside - width) // 2
        figure = pen.page(page_width, top + height + MARGIN)
        for number, text in enumerate(lines):
            pen.write(figure, page_width / 2, MARGIN + (number + 0.5) * pen.line(TITLE), text, TITLE, "center")
        for number, text in enumerate(rows):
            pen.write(figure, left - MARGIN // 2, top + height * (number + 0.5) / len(rows), text, LABEL, "right")
        for number, text in enumerate(columns):
            x = left + width * (number + 0.5) / len(columns)
            pen.write(figure, x, top - pen.line(LABEL) / 2, text, LABEL, "center")
        self._page, self._corner = rendered(figure), (left, top)

    def __call__(self, picture: Tensor) -> Image.Image:
        """Return the page with a picture (C, height, width) in [0, 1]."""
        page = self._page.copy()
        page.paste(to_image(picture), self._corner)
        return page


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Stack parts of a page vertically."""
    page = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        page.paste(part, (0, top))
        top += part.height
    return page


def to_image(picture: Tensor) -> Image.Image:
    """Convert a picture (C, height, width) in [0, 1], with one or three channels, to an RGB image."""
    pixels = (picture.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(pixels.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def rendered(figure: Figure) -> Image.Image:
    """Draw a figure as an RGB image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


class _Pen:
    """Measures and writes text, with positions in pixels."""

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import RendererAgg

        self._renderer = RendererAgg(1, 1, DPI)

    def width(self, text: str, points: int) -> int:
        """Return the width of a text."""
        from matplotlib.font_manager import FontProperties

        width, _, _ = self._renderer.get_text_width_height_descent(text, FontProperties(size=points), ismath=False)
        return int(width) + 1

    def line(self, points: int) -> int:
        """Return the height of a line."""
        return int(1.5 * points * DPI / 72)

    def wrap(self, text: str, points: int, width: int) -> list[str]:
        """Wrap `text` to the smallest number of lines of at most `width` pixels, of about equal length."""
        lines = self._fill(text, points, width)
        for narrower in range(width, 0, -10):
            if len(wrapped := self._fill(text, points, narrower)) > len(lines):
                break
            lines = wrapped
        return lines

    def _fill(self, text: str, points: int, width: int) -> list[str]:
        """Wrap `text` greedily to lines of at most `width` pixels."""
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self.width(longer, points) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def page(self, width: int, height: int) -> Figure:
        """Return an empty white figure of a size in pixels."""
        from matplotlib.figure import Figure

        # Matplotlib rounds the size down, so half a pixel is added.
        return Figure(figsize=((width + 0.5) / DPI, (height + 0.5) / DPI), dpi=DPI, facecolor="white")

    def write(self, figure: Figure, x: float, y: float, text: str, points: int, align: str) -> None:
        """Write a text with its anchor at (x, y) from the top left corner, in pixels."""
        width, height = figure.get_size_inches() * DPI
        figure.text(x / width, 1 - y / height, text, ha=align, va="center", size=points, parse_math=False)
