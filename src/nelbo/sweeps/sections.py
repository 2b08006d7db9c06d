"""Which cells may stand in one picture."""

from __future__ import annotations

from nelbo.comparison import COMPARED, incomparable
from nelbo.sweeps.table import Row, SweepTable
from nelbo.sweeps.values import value_of

Facts = tuple[str, ...]


def comparable(table: SweepTable) -> tuple[str, list[SweepTable]]:
    """Why the cells are not all comparable, empty if they are; and tables within which they are.

    A cell without a result goes where cells of the same data and protocol are.
    """
    sections: dict[Facts, list[Row]] = {}
    for row in table.done:
        sections.setdefault(images(row), []).append(row)
    reason = incomparable({section[0].cell.folder.name: section[0].metrics for section in sections.values()})
    if not reason:
        return "", [table]
    homes = {asked(row): section for section in sections.values() for row in section}
    for row in table.rows:
        if not row.done and (section := homes.get(asked(row))) is not None:
            section.append(row)
    return reason, [table.some(section) for section in sections.values()]


def title(section: SweepTable) -> str:
    """The data of a section."""
    return " ".join(str(section.done[0].metrics.get(key, "")) for key in ("data", "protocol")).strip()


def images(row: Row) -> Facts:
    """What was judged."""
    return tuple(str(row.metrics.get(key, "unknown")) for key in COMPARED)


def asked(row: Row) -> Facts:
    """What data a cell was asked for."""
    return tuple(str(value_of(row.cell, key)) for key in ("data", "data.name", "data.protocol"))
