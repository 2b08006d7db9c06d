"""The tables of report.html: means over seeds, and all cells."""

from __future__ import annotations

from collections.abc import Sequence

from nelbo.sweeps.cells.values import format_value, is_number
from nelbo.sweeps.report.best import best_setting
from nelbo.sweeps.report.cell_table import SweepTable, score
from nelbo.sweeps.report.formatting import format_mean, format_number
from nelbo.sweeps.report.metric_names import ACTIVE_UNITS, KL, NAMES, NELBO, NLL, RECONSTRUCTION
from nelbo.sweeps.report.page import Entry, Heading, Table

MOST_ROWS = 5000
AVERAGED = (NELBO, NLL, KL, RECONSTRUCTION, ACTIVE_UNITS)
COLUMNS = {
    **{metric: NAMES[metric] for metric in AVERAGED},
    "val/nelbo": "validation negative ELBO",
    "test/bits_per_dim": "bits/dim",
    "train_seconds": "training time, s",
}
"""The metrics of a cell that the page shows, with their headings."""


def means_table(table: SweepTable) -> Table | None:
    """Return the means and standard deviations over seeds of every setting; None if no setting has two cells."""
    if not table.done or all(len(group.rows) < 2 for group in table.groups):
        return None
    metrics = [metric for metric in AVERAGED if any(group.mean(metric) is not None for group in table.groups)]
    names = [axis.key for axis in table.swept] + ["seeds", *(NAMES[metric] for metric in metrics)]
    rows = []
    for group in table.groups[:MOST_ROWS]:
        texts = [*map(format_value, group.values.values()), str(sum(row.done for row in group.rows))]
        numbers = [number_entry(format_mean(group, metric), group.mean(metric)) for metric in metrics]
        rows.append([*map(Entry, texts), *numbers])
    note = "Mean ± standard deviation (n − 1) over seeds; test images, in nats per image."
    return Table(note, headings(names, rows), rows)


def cells_table(table: SweepTable, sections: Sequence[SweepTable]) -> Table:
    """Return the table of all cells.

    Args:
        table: all cells.
        sections: the tables of comparable cells. If there are several, no cell is marked as the best.
    """
    metrics = [metric for metric in COLUMNS if any(metric in row.metrics for row in table.rows)]
    names = [*(axis.key for axis in table.axes), *(COLUMNS[metric] for metric in metrics), "state", "directory"]
    best = best_setting(sections[0]) if len(sections) == 1 else None
    best_cells = set() if best is None else {row.cell.identity for row in best.rows}
    mark = " (best setting)" if len(best_cells) > 1 else " (best)"
    ranked = sorted(table.rows, key=score) if len(table.rows) > MOST_ROWS and best else list(table.rows)
    rows = []
    for row in ranked[:MOST_ROWS]:
        values = [row.metrics.get(metric) for metric in metrics]
        numbers = [number_entry(format_number(v), v) if is_number(v) else number_entry("", None) for v in values]
        swept = [Entry(format_value(row.values[axis.key])) for axis in table.axes]
        state = row.cell.state + mark * (row.cell.identity in best_cells)
        rows.append([*swept, *numbers, Entry(state), Entry(row.cell.folder.name)])
    note = "Test images unless the heading says otherwise, in nats per image. Click a heading to sort by it."
    note += " results.csv has all metrics."
    if len(ranked) > MOST_ROWS:
        note += f" The {'best' if best else 'first'} {MOST_ROWS} of {len(ranked)} cells are shown."
    return Table(note, headings(names, rows), rows)


def number_entry(text: str, number: float | None) -> Entry:
    """Return an entry that is sorted by a number; None is sorted last."""
    return Entry(text, "" if number is None else str(number))


def headings(names: Sequence[str], rows: Sequence[Sequence[Entry]]) -> list[Heading]:
    """Return the headings of columns, of which those with numbers only are numeric."""
    return [Heading(name, all(row[column].sort_value is not None for row in rows)) for column, name in enumerate(names)]
