"""What the encoder is given of rows of a table, some of whose entries are missing.

Shapes: B batch, N training rows, D entries of an encoded row, C columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nelbo.distributions.columns import COUNT, NUMERIC, OBSERVED
from nelbo.errors import boolean
from nelbo.heads.columns import checked_layout


class TableInputs(nn.Module):
    """Rows as an encoder can use them: standardised, with missing entries at their mean, and the mask.

    Counts are taken as log(1 + count). The mean of every entry, and the standard deviation of numbers and counts, are
    those of the training rows in which it was observed; the checkpoint holds them. Missing entries are 0 after
    standardisation, which is their mean (Nazabal et al. 2020, section 3; Mattei & Frellsen 2019, section 3).

    Args:
        shape: of x, (D,).
        columns: a description of each column, as `nelbo.heads.Columns` takes it; a run takes it from its table.
        mask: whether the mask is joined, one number for each column: 1 where it was observed.

    Raises:
        ConfigError: as `nelbo.heads.Columns`.

    Example:
        >>> inputs = TableInputs((2,), columns=[{"kind": "numeric"}, {"kind": "binary"}], mask=True)
        >>> inputs(torch.ones(1, 2), {"observed": torch.tensor([[True, False]])})
        tensor([[1., 0., 1., 0.]])
    """

    context_names: ClassVar[tuple[str, ...]] = (OBSERVED,)
    has_default: ClassVar[bool] = True

    def __init__(self, shape: Sequence[int], *, columns: Sequence[Mapping[str, Any]] | None, mask: bool) -> None:
        super().__init__()
        self.mask, self.layout = boolean("mask", mask), checked_layout(columns, shape)
        self.out_shape = (self.layout.size + (self.layout.columns if mask else 0),)
        column_of = self.layout.column_of.tolist()
        first = [column_of.index(column) for column in range(self.layout.columns)]
        self.register_buffer("first", torch.tensor(first), persistent=False)
        self.register_buffer("mean", torch.zeros(self.layout.size))
        self.register_buffer("deviation", torch.ones(self.layout.size))
        self.first: Tensor
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, x: Tensor, context: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the encoder's input, (B, D), or (B, D + C) with the mask.

        Args:
            x: rows, (B, D).
            context: may have `observed`, bool, (B, D); without it, all entries were observed.
        """
        observed = self._observed(x, context)
        inputs = (self._scaled(x) - self.mean) / self.deviation * observed
        return torch.cat([inputs, observed[:, self.first]], dim=1) if self.mask else inputs

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Mapping[str, Tensor] | None = None) -> None:
        """Set means and standard deviations from training rows; a constant has the deviation 1.

        Args:
            images: training rows, (N, D).
            context: may have `observed`, bool, (N, D).
        """
        rows, known = self._scaled(images).double(), self._observed(images, context).double()
        number = known.sum(0).clamp(min=1)
        mean = (rows * known).sum(0) / number
        deviation = (((rows - mean).square() * known).sum(0) / number).sqrt()
        scaled = torch.zeros_like(deviation, dtype=torch.bool)
        for kind in (NUMERIC, COUNT):
            scaled[getattr(self.layout, kind)] = True
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(scaled & (deviation > 0), deviation, 1.0))

    def _scaled(self, x: Tensor) -> Tensor:
        """Return rows with counts on a logarithmic scale."""
        if not self.layout.counts[COUNT]:
            return x
        return x.index_copy(-1, self.layout.count, x[..., self.layout.count].log1p())

    def _observed(self, x: Tensor, context: Mapping[str, Tensor] | None) -> Tensor:
        observed = (context or {}).get(OBSERVED)
        return torch.ones_like(x) if observed is None else observed.to(x.dtype)
