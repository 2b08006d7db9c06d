"""A sweep as one table of cells.

The swept keys are inferred from the cells themselves, so a grid that was later extended by another key is one table.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nelbo.files import read_json
from nelbo.running.scores import headline
from nelbo.sweeps.cells.record import Cell, read_cells
from nelbo.sweeps.cells.values import Value, ascending, is_axis, is_number, overrides_by_key, value_of

SEED = "seed"
"""The key of the axis over which results are averaged."""

EVALUATION, BEST = "evaluation.json", "best.ckpt"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A key whose value differs between cells.

    Args:
        key: the key of the override, such as `objective.beta`.
        values: all values: numbers in ascending order, then categories in the order in which they were typed.
    """

    key: str
    values: tuple[Value, ...]

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(is_number(value) for value in self.values)

    @property
    def label(self) -> str:
        """The last part of the key, such as `beta`."""
        return self.key.rpartition(".")[2]


@dataclasses.dataclass(frozen=True)
class Row:
    """A cell with its value on every axis.

    Args:
        cell: the cell.
        values: its values by key; None where it has none.
        metrics: the content of `metrics.json` and the test metrics of `evaluation.json`.
    """

    cell: Cell
    values: Mapping[str, Value]
    metrics: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether the cell has a result."""
        return self.cell.state == "done"


@dataclasses.dataclass(frozen=True)
class Group:
    """The cells of one setting, which differ only in their seed.

    Args:
        values: the values of the setting by key, without the seed.
        rows: all cells, finished or not.
    """

    values: Mapping[str, Value]
    rows: tuple[Row, ...]

    def numbers(self, metric: str) -> list[float]:
        """Return the finite values of a metric, one per finished cell that has it."""
        values = [row.metrics.get(metric) for row in self.rows if row.done]
        return [float(value) for value in values if is_number(value) and math.isfinite(value)]

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over seeds; None if no cell has it."""
        return statistics.fmean(values) if (values := self.numbers(metric)) else None

    def sd(self, metric: str) -> float | None:
        """Return the standard deviation of a metric over n seeds (divisor n - 1); None for fewer than two."""
        return statistics.stdev(values) if len(values := self.numbers(metric)) > 1 else None


@dataclasses.dataclass(frozen=True)
class SweepTable:
    """The cells of a sweep and the keys in which they differ.

    Args:
        sweep: the directory of the sweep.
        rows: one row per cell, in the order in which the cells were requested.
        axes: the keys whose values differ, including the seed.
    """

    sweep: Path
    rows: tuple[Row, ...]
    axes: tuple[Axis, ...]

    @functools.cached_property
    def swept(self) -> tuple[Axis, ...]:
        """The axes without the seed."""
        return tuple(axis for axis in self.axes if axis.key != SEED)

    @functools.cached_property
    def groups(self) -> tuple[Group, ...]:
        """The rows grouped by setting, ordered along the axes."""
        rows_at: dict[tuple[Value, ...], list[Row]] = {}
        for row in self.rows:
            rows_at.setdefault(tuple(row.values[axis.key] for axis in self.swept), []).append(row)
        positions = [{value: position for position, value in enumerate(axis.values)} for axis in self.swept]

        def order(point: tuple[Value, ...]) -> tuple[int, ...]:
            return tuple(position.get(value, len(position)) for position, value in zip(positions, point, strict=True))

        keys = [axis.key for axis in self.swept]
        return tuple(
            Group(dict(zip(keys, point, strict=True)), tuple(rows_at[point])) for point in sorted(rows_at, key=order)
        )

    @functools.cached_property
    def done(self) -> tuple[Row, ...]:
        """The rows with a result."""
        return tuple(row for row in self.rows if row.done)

    @functools.cached_property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics: test/ first, then val/, then the rest, each in order of first appearance."""
        names = dict.fromkeys(name for row in self.rows for name in row.metrics if name not in ("identity", SEED))
        return tuple(sorted(names, key=lambda name: (not name.startswith("test/"), not name.startswith("val/"))))

    def subset(self, rows: Iterable[Row]) -> SweepTable:
        """Return a table of some of the rows, with the axes along which those differ."""
        kept = tuple(rows)
        return SweepTable(self.sweep, kept, axes_of(kept, [axis.key for axis in self.axes]))


def read_table(sweep: Path) -> SweepTable:
    """Read the table of a sweep's directory.

    Raises:
        SweepError: if the directory is not one of a sweep.
    """
    cells = read_cells(sweep)
    keys = list(dict.fromkeys(key for cell in cells for key in overrides_by_key(cell) if is_axis(key)))
    rows = tuple(
        Row(cell, {key: value_of(cell, key) for key in keys}, evaluation_metrics(cell) | cell.metrics) for cell in cells
    )
    return SweepTable(sweep, rows, axes_of(rows, keys))


def evaluation_metrics(cell: Cell) -> dict[str, Any]:
    """Return the test metrics that a later evaluation of a finished cell's best checkpoint stored.

    One at a setting of a model for many is not that of the cell.
    """
    evaluation = read_json(cell.folder / EVALUATION) if cell.metrics else {}
    if evaluation.get("checkpoint", BEST) != BEST or evaluation.get("at"):
        return {}
    return {key: value for key, value in evaluation.items() if key.startswith("test/") and is_number(value)}


def axes_of(rows: Sequence[Row], keys: Iterable[str]) -> tuple[Axis, ...]:
    """Return the keys along which rows differ, as axes.

    A None of a cell that has not started is ignored: without its config, the value is unknown.
    """
    axes = []
    for key in keys:
        values = dict.fromkeys(row.values[key] for row in rows if row.values[key] is not None or row.cell.config)
        if len(values) > 1:
            axes.append(Axis(key, tuple(sorted(values, key=ascending))))
    return tuple(axes)


def score(row: Row) -> float:
    """Return the number in nats by which cells are ranked; infinite for a cell that has none."""
    try:
        return headline(row.metrics)
    except (KeyError, TypeError, ValueError):
        return math.inf


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the Pareto-optimal points, lower being better, by ascending first coordinate.

    >>> pareto([(1.0, 9.0), (2.0, 5.0), (3.0, 6.0)])
    [0, 1]
    """
    front: list[int] = []
    lowest = math.inf
    for index in sorted(range(len(points)), key=points.__getitem__):
        if points[index][1] < lowest:
            front.append(index)
            lowest = points[index][1]
    return front
