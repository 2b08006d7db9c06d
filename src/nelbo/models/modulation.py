"""Layers whose results are scaled and shifted by functions of a setting or a condition.

Perez et al. 2018, "FiLM: Visual reasoning with a general conditioning layer" (AAAI).

Shapes: B batch, E numbers of a setting, F units of a layer, M rows of its input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 32
"""The width of the hidden layer between a setting and the scales and shifts of a layer."""

NUMBERS = 2
"""How many numbers the setting of many rates is given as: log beta and log of the number of latents."""


class Modulated(nn.Module):
    """A layer whose result y becomes (1 + a) y + c, with a and c for each unit or channel, functions of the setting.

    They are 0 at the start. With many rates the setting is log beta, standardised, and the logarithm of the number of
    latents, scaled to go from -1 to 1; with a condition it is that.

    Args:
        layer: a linear layer or a convolution.
        units: F.
        setting: returns the setting of the images, (B, E).
        numbers: E.
    """

    def __init__(self, layer: nn.Module, units: int, setting: Callable[[], Tensor], numbers: int) -> None:
        super().__init__()
        self.layer, self.setting = layer, setting
        self.hidden, self.last = nn.Linear(numbers, HIDDEN), nn.Linear(HIDDEN, 2 * units)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def factors_and_shifts(self) -> tuple[Tensor, Tensor]:
        """Return 1 + a and c of the current setting, (B, F) each."""
        setting = self.setting().to(self.hidden.weight.dtype)
        scale, shift = self.last(functional.gelu(self.hidden(setting))).chunk(2, dim=-1)
        return 1 + scale, shift

    def forward(self, x: Tensor) -> Tensor:
        """Return the result for x (M, ...); M is a multiple of B, with the images of a sample side by side."""
        y: Tensor = self.layer(x)
        places = [1] * (y.ndim - 2)

        def fitted(values: Tensor) -> Tensor:
            rows = values.repeat(len(y) // len(values), 1) if len(values) > 1 else values
            return rows.reshape(*rows.shape, *places).to(y.dtype)

        factors, shifts = self.factors_and_shifts()
        return torch.addcmul(fitted(shifts), fitted(factors), y)
