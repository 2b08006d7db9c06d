"""Layers of a VAE for many settings whose results are scaled and shifted by functions of the setting.

Perez et al. 2018, "FiLM: Visual reasoning with a general conditioning layer" (AAAI), with the setting as the condition.

Shapes: B batch, F units of a layer, M rows of its input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from nelbo.models.gates import Rate

HIDDEN = 32
"""The width of the hidden layer between a setting and the scales and shifts of a layer."""

NUMBERS = 2
"""How many numbers a setting is given as: log beta and log of the number of latents."""


class Modulated(nn.Module):
    """A layer whose result y becomes (1 + a) y + c, with a and c for each unit or channel, functions of the setting.

    They are 0 at the start. The setting is log beta, standardised, and the logarithm of the number of latents, scaled
    to go from -1 to 1.

    Args:
        layer: a linear layer or a convolution.
        units: F.
        current: the setting of the images.
    """

    def __init__(self, layer: nn.Module, units: int, current: Rate) -> None:
        super().__init__()
        self.layer, self.current = layer, current
        self.hidden, self.last = nn.Linear(NUMBERS, HIDDEN), nn.Linear(HIDDEN, 2 * units)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def factors_and_shifts(self) -> tuple[Tensor, Tensor]:
        """Return 1 + a and c of the current setting, (B, F) each."""
        setting = self.current.setting().to(self.hidden.weight.dtype)
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
