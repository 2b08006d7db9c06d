"""The tables of report.html."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from nelbo.sweeps.cells.values import is_number, show
from nelbo.sweeps.report.best import best_setting
from nelbo.sweeps.report.cell_table import SweepTable, score
from nelbo.sweeps.report.results_file import ACTIVE, DISTORTION, NELBO, NLL, RATE
from nelbo.sweeps.report.scales import digits, spread

MOST_ROWS = 5000
Entry = str | tuple[str, float | None]
"""What is shown, and what it is sorted by if that is another thing."""

COLUMNS = (
    (NELBO, "−ELBO"),
    (NLL, "NLL"),
    (RATE, "rate"),
    (DISTORTION, "distortion"),
    (ACTIVE, "active units"),
    ("val/nelbo", "validation −ELBO"),
    ("test/bits_per_dim", "bits/dim"),
    ("train_seconds", "training, s"),
)


def means(table: SweepTable) -> str:
    """Mean ± sd over seeds of every setting; nothing if no setting has two cells."""
    if not table.done or all(len(group.rows) < 2 for group in table.groups):
        return ""
    columns = [(key, name) for key, name in COLUMNS[:5] if any(group.mean(key) is not None for group in table.groups)]
    head = [axis.key for axis in table.swept] + ["n", *(name for _, name in columns)]
    body: list[list[Entry]] = []
    for group in table.groups[:MOST_ROWS]:
        numbers = [(spread(group, key), group.mean(key)) for key, _ in columns]
        seeds = sum(row.done for row in group.rows)
        body.append([*map(show, group.values.values()), str(seeds), *numbers])
    told = "Mean ± standard deviation (n − 1) over seeds, test images, nats per image."
    return f"<h3>Over seeds</h3><p>{told}</p>{grid(head, body)}"


def cells(table: SweepTable, sections: Sequence[SweepTable]) -> str:
    """All cells, sortable; `sections` are those that are comparable, with a best setting each."""
    columns = [(key, name) for key, name in COLUMNS if any(key in row.metrics for row in table.rows)]
    head = [*(axis.key for axis in table.axes), *(name for _, name in columns), "state", "directory"]
    best = best_setting(sections[0]) if len(sections) == 1 else None  # of several data sets none is the best
    chosen = set() if best is None else {row.cell.identity for row in best.rows}
    mark = " (best setting)" if len(chosen) > 1 else " (best)"
    body: list[list[Entry]] = []
    ranked = sorted(table.rows, key=score) if len(table.rows) > MOST_ROWS and best else list(table.rows)
    for row in ranked[:MOST_ROWS]:
        numbers = [
            (digits(value), value) if is_number(value := row.metrics.get(key)) else ("", None) for key, _ in columns
        ]
        swept = [show(row.values[axis.key]) for axis in table.axes]
        body.append([*swept, *numbers, row.cell.state + mark * (row.cell.identity in chosen), row.cell.folder.name])
    told = (
        "Test images unless it says otherwise, nats per image; a click on a heading sorts. results.csv has all metrics."
    )
    if len(ranked) > MOST_ROWS:
        told += f" The {'best' if best else 'first'} {MOST_ROWS} of {len(ranked)}."
    return f"<h2>Cells</h2><p>{told}</p>{grid(head, body)}"


def grid(head: Sequence[str], body: Iterable[Sequence[Entry]]) -> str:
    """A table; of a pair the second is what is sorted by."""
    body = list(body)
    numeric = [all(not isinstance(row[place], str) for row in body) for place in range(len(head))]
    top = "".join(
        f"<th{' class=number' * right}>{html.escape(name)}</th>" for name, right in zip(head, numeric, strict=True)
    )
    lines = "".join(f"<tr>{''.join(map(entry, row))}</tr>" for row in body)
    return f"<div class='wide'><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def entry(found: Entry) -> str:
    """One entry."""
    if isinstance(found, str):
        return f"<td>{html.escape(found)}</td>"
    text, number = found
    return f'<td class="number" data-value="{"" if number is None else number}">{text}</td>'
