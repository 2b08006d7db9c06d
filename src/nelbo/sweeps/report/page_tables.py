"""The tables of report.html: means over seeds, and all cells."""

from __future__ import annotations

import math
import urllib.parse
from collections.abc import Collection, Sequence
from pathlib import Path

from nelbo.files import read_json
from nelbo.sweeps.cells.record import CONSOLE, SEARCH, Plan
from nelbo.sweeps.cells.values import format_value, is_number
from nelbo.sweeps.report.best import best_setting, mean_score
from nelbo.sweeps.report.cell_table import Row, SweepTable, score
from nelbo.sweeps.report.formatting import format_mean, format_number
from nelbo.sweeps.report.metric_names import ACTIVE_UNITS, KL, NAMES, NELBO, NLL, RECONSTRUCTION
from nelbo.sweeps.report.page import Entry, Heading, Link, Table, TableRow

MOST_ROWS = 5000
AVERAGED = (NELBO, NLL, KL, RECONSTRUCTION, ACTIVE_UNITS)
SCORES = ("val/nelbo", "val/reconstruction", NELBO, RECONSTRUCTION)
"""The metrics by which cells may be ranked, the first that there is."""

COLUMNS = {
    **{metric: NAMES[metric] for metric in AVERAGED},
    "val/nelbo": "validation negative ELBO",
    "val/reconstruction": "validation reconstruction",
    "test/bits_per_dim": "bits/dim",
    "train_seconds": "training time, s",
}
"""The metrics of a cell that the page shows, with their headings."""


def is_search(table: SweepTable) -> bool:
    """Return whether the cells are trials of a search, whose order says nothing, rather than points of a grid."""
    command = Plan.read(table.sweep).command
    return bool(read_json(table.sweep / SEARCH)) or any("optuna" in argument for argument in command)


def means_table(table: SweepTable, name: str = "") -> Table | None:
    """Return the means and standard deviations over seeds of every setting; None if no setting has two cells.

    Args:
        table: cells that are comparable with each other.
        name: their data; empty if all cells are comparable.
    """
    if not table.done or all(len(group.rows) < 2 for group in table.groups):
        return None
    metrics = [metric for metric in AVERAGED if any(group.mean(metric) is not None for group in table.groups)]
    names = [axis.key for axis in table.swept] + ["seeds", *(NAMES[metric] for metric in metrics)]
    best = best_setting(table) if table.swept else None
    groups = sorted(table.groups, key=mean_score) if is_search(table) else table.groups
    rows = []
    for group in groups[:MOST_ROWS]:
        texts = [*map(format_value, group.values.values()), str(sum(row.done for row in group.rows))]
        numbers = [number_entry(format_mean(group, metric), group.mean(metric)) for metric in metrics]
        rows.append(TableRow([*map(Entry, texts), *numbers], best=group is best))
    note = "Mean ± standard deviation (n − 1) over seeds; test images, in nats per image."
    if best is not None:
        note += " The best setting is highlighted."
    label = f"Means over seeds{', ' * bool(name)}{name}"
    return Table(label, note, headings(names, rows), rows)


def cells_table(table: SweepTable, sections: Sequence[SweepTable]) -> Table:
    """Return the table of all cells.

    Args:
        table: all cells.
        sections: the tables of comparable cells. If there are several, no cell is marked as the best.
    """
    metrics = [metric for metric in COLUMNS if any(metric in row.metrics for row in table.rows)]
    if SCORES[0] in metrics and SCORES[1] in metrics:
        metrics.remove(SCORES[1])  # shown where it is what cells are ranked by
    names = [*(axis.key for axis in table.axes), *(COLUMNS[metric] for metric in metrics), "state", "log", "directory"]
    best = best_setting(sections[0]) if len(sections) == 1 else None
    best_cells = set() if best is None else {row.cell.identity for row in best.rows}
    mark = " (best setting)" if len(best_cells) > 1 else " (best)"
    ranking = ranked_by(table, metrics) if best and is_search(table) else ""
    is_cut = len(table.rows) > MOST_ROWS and best is not None
    ordered = sorted(table.rows, key=score) if ranking or is_cut else list(table.rows)
    rows = []
    for row in ordered[:MOST_ROWS]:
        values = [row.metrics.get(metric) for metric in metrics]
        numbers = [number_entry(format_number(v), v) if is_number(v) else number_entry("", None) for v in values]
        swept = [Entry(format_value(row.values[axis.key])) for axis in table.axes]
        is_best = row.cell.identity in best_cells
        files = [Entry("", link=log_link(row)), Entry(row.cell.folder.name, link=directory_link(row))]
        rows.append(TableRow([*swept, *numbers, Entry(row.cell.state + mark * is_best), *files], best=is_best))
    note = "Test images unless the heading says otherwise, in nats per image. The button of a heading sorts by it."
    if ranking:
        note += f" The trials of this search are sorted by {COLUMNS[ranking]}, the best first."
    if len(ordered) > MOST_ROWS:
        note += f" The {'best' if best else 'first'} {MOST_ROWS} of {len(ordered)} cells are shown."
    return Table("All cells", note, headings(names, rows, COLUMNS.get(ranking, "")), rows)


def ranked_by(table: SweepTable, shown: Collection[str]) -> str:
    """Return the shown metric by which `score` ranks all finished cells; empty if it is not one."""
    ranked = next((name for name in SCORES if any(name in row.metrics for row in table.done)), "")
    same = all(row.metrics.get(ranked) == score(row) for row in table.done if math.isfinite(score(row)))
    return ranked if ranked in shown and same else ""


def directory_link(row: Row) -> Link | None:
    """Return the link to the directory of a cell; None if it has not started."""
    folder: Path = row.cell.folder
    return Link(folder.name, f"{urllib.parse.quote(folder.name)}/") if folder.is_dir() else None


def log_link(row: Row) -> Link | None:
    """Return the link to what a cell wrote on the console; None if there is no such file."""
    folder: Path = row.cell.folder
    address = f"{urllib.parse.quote(folder.name)}/{CONSOLE}"
    return Link(CONSOLE, address) if (folder / CONSOLE).is_file() else None


def number_entry(text: str, number: float | None) -> Entry:
    """Return an entry that is sorted by a number; None is sorted last."""
    return Entry(text, "" if number is None else str(number))


def headings(names: Sequence[str], rows: Sequence[TableRow], ranking: str = "") -> list[Heading]:
    """Return the headings of columns, of which those with numbers only are numeric.

    Args:
        names: their texts.
        rows: the rows of the table.
        ranking: the heading of the column by which the rows are sorted in ascending order; empty if by none.
    """
    return [
        Heading(
            name,
            all(row.entries[column].sort_value is not None for row in rows),
            "ascending" if ranking and name == ranking else "",
        )
        for column, name in enumerate(names)
    ]
