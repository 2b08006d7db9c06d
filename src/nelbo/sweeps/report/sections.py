"""Which cells may stand in one picture."""

from __future__ import annotations

from collections.abc import Sequence

from nelbo.config.comparison import COMPARED, VALIDATED, incomparable, ranked_apart, validated_on
from nelbo.sweeps.cells.values import value_of
from nelbo.sweeps.report.cell_table import Row, SweepTable

Facts = tuple[str, ...]


def comparable(table: SweepTable) -> tuple[str, list[SweepTable]]:
    """Why the cells are not all comparable, empty if they are; and tables within which they are.

    Comparable are cells that were tested on the same images, and validated on the same, by which they are ranked. A
    cell without a result goes where cells of the same data, protocol and split are.
    """
    sections: dict[Facts, list[Row]] = {}
    for row in table.done:
        sections.setdefault(images(row), []).append(row)
    results = {section[0].cell.folder.name: section[0].metrics for section in sections.values()}
    reason = incomparable(results) or ranked_apart(results)
    if not reason:
        return "", [table]
    homes = {asked(row): section for section in sections.values() for row in section}
    for row in table.rows:
        if not row.done and (section := homes.get(asked(row))) is not None:
            section.append(row)
    return reason, [table.some(section) for section in sections.values()]


def titles(sections: Sequence[SweepTable]) -> list[str]:
    """The data of each section; where several are of the same, with their split."""
    results = [section.done[0].metrics for section in sections]
    names = [" ".join(str(result.get(key, "")) for key in ("data", "protocol")).strip() for result in results]
    splits = [", ".join(f"{typed}={result.get(key)}" for key, typed in VALIDATED.items()) for result in results]
    return [f"{name}, {split}" if names.count(name) > 1 else name for name, split in zip(names, splits, strict=True)]


def images(row: Row) -> Facts:
    """What was judged."""
    return (*(str(row.metrics.get(key, "unknown")) for key in COMPARED), *validated_on(row.metrics))


def asked(row: Row) -> Facts:
    """What data a cell was asked for."""
    return tuple(str(value_of(row.cell, key)) for key in ("data", "data.name", "data.protocol", *VALIDATED.values()))
