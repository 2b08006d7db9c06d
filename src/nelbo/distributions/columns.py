"""Rows of a table: one distribution for each column, and which entries of a row were observed.

Shapes: S Monte Carlo samples, B batch, C columns, D entries of an encoded row. A numeric column, a binary one and a
count are one entry each; a categorical column of K categories is K entries, one-hot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, constraints
from torch.nn import functional

from nelbo.numerics.precision import finest

NUMERIC, BINARY, CATEGORICAL, COUNT, CONSTANT = "numeric", "binary", "categorical", "count", "constant"
KINDS = (NUMERIC, BINARY, CATEGORICAL, COUNT, CONSTANT)
"""Kinds of columns; a constant one is no entry of a row."""

OBSERVED = "observed"
"""The name under which parts of a model are given which entries of each row were observed, bool, (B, D)."""

LOG_MEAN_BOUND = 30.0
"""Bound of the logarithm of the mean of a count, beyond which float32 would overflow."""


class ColumnLayout(nn.Module):
    """Where each column of a table stands in an encoded row. It has no parameters, and moves with its module.

    Args:
        columns: a mapping for each column with its `kind`, one of `KINDS`, and `categories` if it is categorical.

    Example:
        >>> layout = ColumnLayout([{"kind": "numeric"}, {"kind": "categorical", "categories": ["a", "b", "c"]}])
        >>> layout.size, layout.column_of.tolist()
        (4, [0, 1, 1, 1])
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        places: dict[str, list[int]] = {NUMERIC: [], BINARY: [], COUNT: [], CATEGORICAL: []}
        column_of: list[int] = []
        classes: list[list[int]] = []
        for number, column in enumerate(column for column in columns if column["kind"] != CONSTANT):
            width = len(column["categories"]) if column["kind"] == CATEGORICAL else 1
            entries = list(range(len(column_of), len(column_of) + width))
            places[column["kind"]] += entries
            column_of += [number] * width
            if column["kind"] == CATEGORICAL:
                classes.append(entries)
        self.size = len(column_of)
        """D."""
        self.columns = len(set(column_of))
        """C, without constant columns."""
        self.counts = {kind: len(entries) for kind, entries in places.items()}
        """The number of entries of each kind."""
        order = [entry for entries in places.values() for entry in entries]
        most = max(map(len, classes), default=0)
        padded = [entries + [entries[0]] * (most - len(entries)) for entries in classes]
        real = [[place < len(entries) for place in range(most)] for entries in classes]
        flat = [row * most + place for row, entries in enumerate(classes) for place in range(len(entries))]
        self.keep("column_of", torch.tensor(column_of, dtype=torch.int64))
        for kind, entries in places.items():
            self.keep(kind, torch.tensor(entries, dtype=torch.int64))
        self.keep("order", torch.tensor(order, dtype=torch.int64).argsort())
        self.keep("padded", torch.tensor(padded, dtype=torch.int64).reshape(len(classes), most))
        self.keep("beyond", ~torch.tensor(real, dtype=torch.bool).reshape(len(classes), most))
        self.keep("flat", torch.tensor(flat, dtype=torch.int64))
        self.column_of: Tensor
        self.numeric: Tensor
        self.binary: Tensor
        self.categorical: Tensor
        self.count: Tensor
        self.order: Tensor
        self.padded: Tensor
        self.beyond: Tensor
        self.flat: Tensor

    def keep(self, name: str, value: Tensor) -> None:
        """Keep indices on the module's device, outside of checkpoints."""
        self.register_buffer(name, value, persistent=False)

    def joined(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return rows (..., D) of their entries by kind."""
        present = [parts[kind] for kind in (NUMERIC, BINARY, COUNT, CATEGORICAL) if self.counts[kind]]
        return torch.cat(present, dim=-1)[..., self.order]

    def log_softmax(self, parameters: Tensor) -> Tensor:
        """Return log-probabilities of categories, (..., G, K), of rows of parameters (..., D).

        There are G categorical columns, and K is the largest number of categories; those beyond the number of a column
        have the probability 0.
        """
        return parameters[..., self.padded].masked_fill(self.beyond, -math.inf).log_softmax(-1)

    def of_classes(self, padded: Tensor) -> Tensor:
        """Return the entries of categorical columns of values (..., G, K)."""
        return padded.flatten(-2)[..., self.flat]


class Rows(constraints.Constraint):
    """Encoded rows: finite numbers, 0 or 1 for binary columns, counts 0, 1, ..., and one-hot categories.

    A row of zeros is also allowed for a category, because that is how a missing one is stored.

    Args:
        layout: of the columns.
    """

    is_discrete = False
    event_dim = 1

    def __init__(self, layout: ColumnLayout) -> None:
        super().__init__()
        self.layout = layout

    def check(self, value: Tensor) -> Tensor:
        """Return whether rows (..., D) are allowed, (...)."""
        layout = self.layout
        right = value.isfinite().all(-1)
        bits = value[..., torch.cat([layout.binary, layout.categorical])]
        right = right & ((bits == 0) | (bits == 1)).all(-1)
        counts = value[..., layout.count]
        right = right & ((counts >= 0) & (counts == counts.round())).all(-1)
        if layout.counts[CATEGORICAL]:
            chosen = value[..., layout.padded].masked_fill(layout.beyond, 0).sum(-1)
            right = right & (chosen <= 1).all(-1)
        return right


class TableRows(Distribution):
    """Independent columns, of which only the observed ones count.

    Numbers are Gaussian, binary columns Bernoulli, categories categorical, and counts negative binomial, or Poisson if
    there is no `log_total`.

    Args:
        layout: where the columns stand.
        parameters: one for each entry of a row, (..., D): the mean of a number, a logit, or the log mean of a count.
        log_scale: log sigma of each numeric column.
        log_total: log r of each count, whose variance is mu + mu^2 / r; None for Poisson.
        observed: which entries were observed, bool, (B, D); None for all. `log_prob` is that of the observed ones.

    Example:
        >>> layout = ColumnLayout([{"kind": "numeric"}, {"kind": "binary"}])
        >>> rows = TableRows(layout, torch.zeros(5, 2), torch.zeros(1), None, torch.tensor([[True, False]]))
        >>> round(rows.log_prob(torch.zeros(5, 2))[0].item(), 4)  # log N(0; 0, 1)
        -0.9189
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = False

    def __init__(
        self,
        layout: ColumnLayout,
        parameters: Tensor,
        log_scale: Tensor,
        log_total: Tensor | None = None,
        observed: Tensor | None = None,
    ) -> None:
        self.layout, self.parameters, self.observed = layout, parameters, observed
        self.log_scale, self.log_total = log_scale, log_total
        super().__init__(parameters.shape[:-1], parameters.shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Rows, as they are encoded."""
        return Rows(self.layout)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> TableRows:
        """Return the same distribution with a larger batch shape."""
        parameters = self.parameters.expand((*batch_shape, *self.event_shape))
        return TableRows(self.layout, parameters, self.log_scale, self.log_total, self.observed)

    @property
    def _log_mean(self) -> Tensor:
        return self.parameters[..., self.layout.count].clamp(-LOG_MEAN_BOUND, LOG_MEAN_BOUND)

    def entry_log_probs(self, value: Tensor) -> Tensor:
        """Return the log-probability of each entry of rows (..., D), in nats, whether or not it was observed.

        Of a categorical column, those of its categories are 0 but for the chosen one.
        """
        layout, parts = self.layout, dict[str, Tensor]()
        if layout.counts[NUMERIC]:
            error = (value[..., layout.numeric] - self.parameters[..., layout.numeric]) / self.log_scale.exp()
            parts[NUMERIC] = -0.5 * error.square() - self.log_scale - 0.5 * math.log(2 * math.pi)
        if layout.counts[BINARY]:
            logits, bits = torch.broadcast_tensors(self.parameters[..., layout.binary], value[..., layout.binary])
            parts[BINARY] = -functional.binary_cross_entropy_with_logits(logits, bits, reduction="none")
        if layout.counts[COUNT]:
            parts[COUNT] = self._count_log_prob(value[..., layout.count])
        if layout.counts[CATEGORICAL]:
            chosen = value[..., layout.categorical]
            parts[CATEGORICAL] = chosen * layout.of_classes(layout.log_softmax(self.parameters))
        return layout.joined(parts)

    def _count_log_prob(self, counts: Tensor) -> Tensor:
        """Return the log-probability of counts, in nats; log gammas of large numbers need float64."""
        log_mean = self._log_mean
        count = finest(counts)
        if self.log_total is None:
            return counts * log_mean - log_mean.exp() - (count + 1).lgamma().to(log_mean.dtype)
        log_total = self.log_total
        total = finest(log_total).exp()
        ways = ((count + total).lgamma() - total.lgamma() - (count + 1).lgamma()).to(log_mean.dtype)
        failures = log_total.exp() * functional.softplus(log_mean - log_total)
        return ways - failures - counts * functional.softplus(log_total - log_mean)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of the observed entries of rows (..., D), in nats, (...)."""
        entries = self.entry_log_probs(value)
        return (entries if self.observed is None else torch.where(self.observed, entries, 0.0)).sum(-1)

    @property
    def mean(self) -> Tensor:
        """The mean of each entry, (..., D): of categories, their probabilities."""
        layout, values = self.layout, self.parameters
        parts = {
            NUMERIC: values[..., layout.numeric],
            BINARY: values[..., layout.binary].sigmoid(),
            COUNT: self._log_mean.exp(),
        }
        if layout.counts[CATEGORICAL]:
            parts[CATEGORICAL] = layout.of_classes(layout.log_softmax(values).exp())
        return layout.joined(parts)

    @property
    def mode(self) -> Tensor:
        """The most probable value of each column, (..., D)."""
        layout, values = self.layout, self.parameters
        count = self._log_mean.exp()
        if self.log_total is not None:
            count = count * (1 - (-self.log_total).exp()).clamp(min=0)
        parts = {
            NUMERIC: values[..., layout.numeric],
            BINARY: (values[..., layout.binary] > 0).to(values.dtype),
            COUNT: count.floor(),
        }
        if layout.counts[CATEGORICAL]:
            parts[CATEGORICAL] = self._one_hot(layout.log_softmax(values).argmax(-1))
        return layout.joined(parts)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return rows, (*sample_shape, ..., D)."""
        layout = self.layout
        with torch.no_grad():
            values = self.parameters.expand(*sample_shape, *self.parameters.shape)
            loc = values[..., layout.numeric]
            mean = self._log_mean.exp().expand(*sample_shape, *self.batch_shape, layout.counts[COUNT])
            if self.log_total is not None and mean.numel():
                total = self.log_total.exp()
                mean = torch.distributions.Gamma(total.expand_as(mean), total / mean, validate_args=False).sample()
            parts = {
                NUMERIC: loc + self.log_scale.exp() * torch.randn_like(loc),
                BINARY: torch.bernoulli(values[..., layout.binary].sigmoid()),
                COUNT: torch.poisson(mean),
            }
            if layout.counts[CATEGORICAL]:
                drawn = Categorical(logits=layout.log_softmax(values), validate_args=False).sample()
                parts[CATEGORICAL] = self._one_hot(drawn)
            return layout.joined(parts)

    def _one_hot(self, chosen: Tensor) -> Tensor:
        """Return the entries of categorical columns, of the numbers of their categories (..., G)."""
        most = self.layout.padded.shape[-1]
        return self.layout.of_classes(functional.one_hot(chosen, most).to(self.parameters.dtype))
