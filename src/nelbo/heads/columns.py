"""The likelihood of rows of a table: a distribution for each column, of the observed entries alone.

Shapes: S Monte Carlo samples, B batch, N training rows, D entries of an encoded row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import ColumnLayout, TableRows
from nelbo.distributions.columns import BINARY, CATEGORICAL, COUNT, KINDS, NUMERIC, OBSERVED
from nelbo.errors import ConfigError, choice
from nelbo.heads.likelihood import Likelihood
from nelbo.nets import Projection

COUNT_FAMILIES = ("negative_binomial", "poisson")

SIGMA_FLOOR = 0.01
"""The least sigma of a number, in standard deviations of its column: of repeated values it would go to 0."""

LOG_TOTAL_BOUND = 7.0
"""Bound of |log r| of a negative binomial, which is close to a Poisson distribution at r = 1000."""


class Columns(Likelihood):
    """p(x|z) of the observed columns of a row, independent given z (Nazabal et al. 2020, "HI-VAE", section 2).

    Numbers are Gaussian, with one learned sigma for each column; binary columns are Bernoulli, categories categorical,
    and counts negative binomial, with one learned dispersion for each column, or Poisson.

    Args:
        feature_shape: shape of the decoder's features.
        shape: (D,).
        columns: a description of each column, with its `kind` and its `categories`; a run takes it from its table.
        counts: the distribution of counts, one of `COUNT_FAMILIES`.

    Raises:
        ConfigError: if there are no columns, one has another kind, or together they have another size.

    Example:
        >>> columns = [{"kind": "numeric"}, {"kind": "categorical", "categories": ["a", "b"]}]
        >>> likelihood = Columns((16,), (3,), columns=columns, counts="poisson")
        >>> observed = torch.tensor([[True, False, False]]).expand(5, 3)
        >>> px = likelihood(torch.zeros(4, 5, 16), context={"observed": observed})
        >>> px.log_prob(torch.zeros(5, 3)).shape
        torch.Size([4, 5])
    """

    hint = "needs rows of a table, data=table"
    context_names: ClassVar[tuple[str, ...]] = (OBSERVED,)
    has_default: ClassVar[bool] = True

    def __init__(
        self,
        feature_shape: Sequence[int],
        shape: Sequence[int],
        *,
        columns: Sequence[Mapping[str, Any]] | None,
        counts: str,
    ) -> None:
        super().__init__()
        family = choice("counts", counts, COUNT_FAMILIES)
        self.layout = checked_layout(columns, shape)
        self.project = Projection(feature_shape, shape)
        self.log_sigma = nn.Parameter(torch.zeros(self.layout.counts[NUMERIC]))
        dispersed = family == "negative_binomial" and self.layout.counts[COUNT]
        self.log_total = nn.Parameter(torch.zeros(self.layout.counts[COUNT])) if dispersed else None

    def forward(
        self, features: Tensor, x: Tensor | None = None, context: Mapping[str, Tensor] | None = None
    ) -> Distribution:
        """Return p(x|z) of the observed entries, which the context may say; without it, of all.

        Args:
            features: features of z, (S, B, *feature_shape).
            x: unused.
            context: may have `observed`, bool, (B, D).
        """
        floor = 2 * torch.log(torch.full_like(self.log_sigma, SIGMA_FLOOR))
        log_scale = torch.logaddexp(2 * self.log_sigma, floor) / 2
        log_total = None if self.log_total is None else self.log_total.clamp(-LOG_TOTAL_BOUND, LOG_TOTAL_BOUND)
        observed = (context or {}).get(OBSERVED)
        return TableRows(self.layout, self.project(features), log_scale, log_total, observed)

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Mapping[str, Tensor] | None = None) -> None:
        """Set bias, sigma and dispersion to the statistics of each column among the rows in which it was observed.

        Args:
            images: training rows, (N, D).
            context: may have `observed`, bool, (N, D).
        """
        rows = images.double()
        observed = (context or {}).get(OBSERVED)
        known = torch.ones_like(rows) if observed is None else observed.double()
        number = known.sum(0)
        mean = (rows * known).sum(0) / number.clamp(min=1)
        variance = ((rows - mean).square() * known).sum(0) / number.clamp(min=1)
        layout, start = self.layout, mean.clone()
        ones = mean * number
        start[layout.binary] = torch.logit((ones + 1) / (number + 2))[layout.binary]
        start[layout.count] = ((ones + 0.5) / (number + 1)).log()[layout.count]
        start[layout.categorical] = (ones + 1).log()[layout.categorical]
        self.project.set_bias(start.to(images.dtype))
        spread = variance[layout.numeric].clamp(min=SIGMA_FLOOR**2)
        self.log_sigma.copy_(spread.log() / 2)
        if self.log_total is not None:
            beyond = (variance - mean)[layout.count].clamp(min=1e-6)
            total = mean[layout.count].clamp(min=1e-6).square() / beyond
            self.log_total.copy_(total.log().clamp(-LOG_TOTAL_BOUND + 1, LOG_TOTAL_BOUND - 1))


def checked_layout(columns: Sequence[Mapping[str, Any]] | None, shape: Sequence[int]) -> ColumnLayout:
    """Return the layout of columns, after checking their descriptions.

    Args:
        columns: a description of each column.
        shape: of x, (D,).

    Raises:
        ConfigError: as `Columns` does.
    """
    if not columns:
        raise ConfigError("columns", columns, "needs a description of each column, which a run takes from data=table")
    for index, column in enumerate(columns):
        kind = column.get("kind") if isinstance(column, Mapping) else column
        choice(f"columns[{index}].kind", kind, KINDS)
        if kind in (BINARY, CATEGORICAL) and "categories" in column and len(column["categories"]) < 2:
            raise ConfigError(f"columns[{index}].categories", column["categories"], "must be at least two")
        if kind == CATEGORICAL and "categories" not in column:
            raise ConfigError(f"columns[{index}].categories", None, "needs the categories of the column, in a list")
    layout = ColumnLayout(columns)
    if tuple(shape) != (layout.size,):
        hint = f"the columns have {layout.size} entries, which data of another shape do not fit; use data=table"
        raise ConfigError("shape", list(shape), hint)
    return layout
