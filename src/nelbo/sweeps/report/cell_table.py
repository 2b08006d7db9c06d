"""A sweep as one table. What was swept is found in its cells, so a grid that grew later with a new key is one table."""

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
from nelbo.sweeps.cells.values import Value, ascending, is_axis, is_number, typed, value_of

SEED = "seed"
"""The axis of replicates."""

EVALUATION, BEST = "evaluation.json", "best.ckpt"


@dataclasses.dataclass(frozen=True)
class Axis:
    """A key whose value differs between cells.

    Args:
        key: as it is typed, such as `objective.beta`.
        values: all of them, in ascending order if they are numbers.
    """

    key: str
    values: tuple[Value, ...]

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(is_number(value) for value in self.values)

    @property
    def label(self) -> str:
        """The key without its group, for figures."""
        return self.key.rpartition(".")[2]


@dataclasses.dataclass(frozen=True)
class Row:
    """A cell with its place on every axis.

    Args:
        cell: where it comes from.
        values: by key; None where the cell has none.
        metrics: what `metrics.json` and `evaluation.json` say.
    """

    cell: Cell
    values: Mapping[str, Value]
    metrics: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.cell.state == "done"


@dataclasses.dataclass(frozen=True)
class Group:
    """Cells that differ in their seed only.

    Args:
        values: by key, without the seed.
        rows: all of them, finished or not.
    """

    values: Mapping[str, Value]
    rows: tuple[Row, ...]

    def numbers(self, metric: str) -> list[float]:
        """The finite values of a metric over the seeds that have it."""
        found = [row.metrics.get(metric) for row in self.rows if row.done]
        return [float(value) for value in found if is_number(value) and math.isfinite(value)]

    def mean(self, metric: str) -> float | None:
        """Over seeds; None if no cell has it."""
        return statistics.fmean(found) if (found := self.numbers(metric)) else None

    def sd(self, metric: str) -> float | None:
        """The standard deviation over seeds, with n - 1; None below two."""
        return statistics.stdev(found) if len(found := self.numbers(metric)) > 1 else None


@dataclasses.dataclass(frozen=True)
class SweepTable:
    """Rows, and what was swept.

    Args:
        sweep: its directory.
        rows: one a cell, in the order in which they were asked for.
        axes: the keys whose values differ, the seed among them.
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
        """Rows by their swept values, ordered along the axes."""
        found: dict[tuple[Value, ...], list[Row]] = {}
        for row in self.rows:
            found.setdefault(tuple(row.values[axis.key] for axis in self.swept), []).append(row)
        places = [{value: place for place, value in enumerate(axis.values)} for axis in self.swept]

        def order(point: tuple[Value, ...]) -> tuple[int, ...]:
            return tuple(place.get(value, len(place)) for place, value in zip(places, point, strict=True))

        keys = [axis.key for axis in self.swept]
        return tuple(
            Group(dict(zip(keys, point, strict=True)), tuple(found[point])) for point in sorted(found, key=order)
        )

    @functools.cached_property
    def done(self) -> tuple[Row, ...]:
        """Rows with a result."""
        return tuple(row for row in self.rows if row.done)

    @functools.cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric of any cell: test/ first, then val/, then the rest, each in the order of first sight."""
        names = dict.fromkeys(name for row in self.rows for name in row.metrics if name not in ("identity", SEED))
        return tuple(sorted(names, key=lambda name: (not name.startswith("test/"), not name.startswith("val/"))))

    def some(self, rows: Iterable[Row]) -> SweepTable:
        """A table of some of the rows, with the axes along which those differ."""
        kept = tuple(rows)
        return SweepTable(self.sweep, kept, axes_of(kept, [axis.key for axis in self.axes]))


def read_table(sweep: Path) -> SweepTable:
    """The table of a sweep's directory.

    Raises:
        SweepError: if it is none.
    """
    cells = read_cells(sweep)
    keys = list(dict.fromkeys(key for cell in cells for key in typed(cell) if is_axis(key)))
    rows = tuple(
        Row(cell, {key: value_of(cell, key) for key in keys}, evaluation(cell) | cell.metrics) for cell in cells
    )
    return SweepTable(sweep, rows, axes_of(rows, keys))


def evaluation(cell: Cell) -> dict[str, Any]:
    """The numbers that a later evaluation of its best checkpoint found on the test images of a cell that is done."""
    found = read_json(cell.folder / EVALUATION) if cell.metrics else {}
    if found.get("checkpoint", BEST) != BEST:
        return {}
    return {key: value for key, value in found.items() if key.startswith("test/") and is_number(value)}


def axes_of(rows: Sequence[Row], keys: Iterable[str]) -> tuple[Axis, ...]:
    """The keys along which rows differ. A cell that has not started does not say what it was not asked."""
    axes = []
    for key in keys:
        told = {row.values[key] for row in rows if row.values[key] is not None or row.cell.config}
        if len(told) > 1:
            axes.append(Axis(key, tuple(sorted(told, key=ascending))))
    return tuple(axes)


def score(row: Row) -> float:
    """What cells are ranked by; infinite for one that has no such number."""
    try:
        return headline(row.metrics)
    except (KeyError, TypeError, ValueError):
        return math.inf


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points no other beats in both, lower being better, by ascending first coordinate."""
    front: list[int] = []
    lowest = math.inf
    for index in sorted(range(len(points)), key=points.__getitem__):
        if points[index][1] < lowest:
            front.append(index)
            lowest = points[index][1]
    return front
