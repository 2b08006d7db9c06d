"""Conversion of Matplotlib figures to tensors."""

from __future__ import annotations

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def as_picture(figure: Figure) -> Tensor:
    """Draw a figure and return its pixels, (3, height, width) in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    return image.reshape(height, width, 4)[..., :3].permute(2, 0, 1).float() / 255
