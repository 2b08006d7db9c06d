"""Groups of cells that are comparable with each other."""

from __future__ import annotations

from collections.abc import Sequence

from nelbo.config.comparison import COMPARED, VALIDATED, incomparable, ranked_apart, validated_on
from nelbo.sweeps.cells.values import value_of
from nelbo.sweeps.report.cell_table import Row, SweepTable

ImageFacts = tuple[str, ...]
"""Properties that identify the images of a result."""


def comparable(table: SweepTable) -> tuple[str, list[SweepTable]]:
    """Split a table into tables of comparable cells.

    Cells are comparable if they were tested on the same images and validated, which ranks them, on the same images. A
    cell without a result joins the cells whose config has the same data, protocol and split.

    Returns:
        The reason why not all cells are comparable, empty if they are, and the tables.
    """
    sections: dict[ImageFacts, list[Row]] = {}
    for row in table.done:
        sections.setdefault(measured_images(row), []).append(row)
    results = {section[0].cell.folder.name: section[0].metrics for section in sections.values()}
    reason = incomparable(results) or ranked_apart(results)
    if not reason:
        return "", [table]
    section_of = {configured_images(row): section for section in sections.values() for row in section}
    for row in table.rows:
        if not row.done and (section := section_of.get(configured_images(row))) is not None:
            section.append(row)
    return reason, [table.subset(section) for section in sections.values()]


def titles(sections: Sequence[SweepTable]) -> list[str]:
    """Return the data and protocol of each section, with the split where several sections share them."""
    results = [section.done[0].metrics for section in sections]
    names = [" ".join(str(result.get(key, "")) for key in ("data", "protocol")).strip() for result in results]
    splits = [", ".join(f"{key}={result.get(name)}" for name, key in VALIDATED.items()) for result in results]
    return [f"{name}, {split}" if names.count(name) > 1 else name for name, split in zip(names, splits, strict=True)]


def measured_images(row: Row) -> ImageFacts:
    """Return the properties of the images that a finished cell was tested and validated on."""
    return (*(str(row.metrics.get(key, "unknown")) for key in COMPARED), *validated_on(row.metrics))


def configured_images(row: Row) -> ImageFacts:
    """Return the properties of the images in a cell's config."""
    return tuple(str(value_of(row.cell, key)) for key in ("data", "data.name", "data.protocol", *VALIDATED.values()))
