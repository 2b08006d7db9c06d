"""A causal network over sequences, in which no position depends on a later one.

Shapes: M sequences, N positions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nelbo.errors import ConfigError, positive_integer

STARTING_SCALE = 0.02
"""Standard deviation of the initial embeddings of positions."""


class CausalTransformer(nn.Module):
    """A transformer from one-hot codes to K logits per position, given the positions before it (Vaswani et al. 2017).

    Args:
        event_shape: (N, K).
        width: number of features of a position.
        layers: number of layers.
        heads: number of attention heads; must divide `width`.

    Raises:
        ConfigError: if a number is not positive and whole, or `heads` does not divide `width`.

    Example:
        >>> net = CausalTransformer((3, 4), width=8, layers=1, heads=2)
        >>> net(torch.eye(4)[torch.zeros(5, 3, dtype=torch.long)]).shape
        torch.Size([5, 3, 4])
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
        """Return logits, (M, N, K), of one-hot codes z, (M, N, K)."""
        previous = torch.cat([self.start.expand(len(z), -1, -1), self.embed(z[:, :-1])], dim=1)
        features = self.layers(previous + self.positions, mask=self.mask, is_causal=True)
        logits: Tensor = self.project(features)
        return logits
