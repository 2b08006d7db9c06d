"""A net over sequences, in which nothing sees what comes after it.

Shapes: M sequences, N positions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.errors import ConfigError, positive_integer

STARTING_SCALE = 0.02
"""Deviation of the starting embeddings of positions."""


class CausalTransformer(nn.Module):
    """One-hot codes (M, N, K) to a row of K numbers for each position, from the codes before it (Vaswani et al. 2017).

    Args:
        event_shape: (N, K).
        width: of a position's features.
        layers: how many.
        heads: of the attention; must divide the width.

    Raises:
        ConfigError: for a number that is not positive and whole, or heads that do not divide the width.
    """

    def __init__(self, event_shape: Sequence[int], *, width: int, layers: int, heads: int) -> None:
        super().__init__()
        positions, classes = event_shape
        positive_integer("width", width)
        if width % positive_integer("heads", heads):
            raise ConfigError("heads", heads, f"must divide width={width}")
        self.embed = nn.Linear(classes, width)
        self.start = nn.Parameter(STARTING_SCALE * torch.randn(1, 1, width))
        self.positions = nn.Parameter(STARTING_SCALE * torch.randn(positions, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(
            layer, positive_integer("layers", layers), norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.project = nn.Linear(width, classes)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(positions), persistent=False)
        self.mask: Tensor

    def forward(self, z: Tensor) -> Tensor:
        """The rows, (M, N, K)."""
        before = torch.cat([self.start.expand(len(z), -1, -1), self.embed(z[:, :-1])], dim=1)
        features = self.layers(before + self.positions, mask=self.mask, is_causal=True)
        rows: Tensor = self.project(features)
        return rows
