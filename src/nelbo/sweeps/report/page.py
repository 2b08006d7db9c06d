"""report.html: one file that needs no other."""

from __future__ import annotations

import base64
import html
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from PIL import Image

from nelbo.sweeps.cells.record import STATES, cells_of, grouped_errors
from nelbo.sweeps.cells.values import show
from nelbo.sweeps.report.best import best_setting, command, judged_by, result, setting
from nelbo.sweeps.report.cell_table import Group, Row, SweepTable, score
from nelbo.sweeps.report.html_tables import cells, means
from nelbo.sweeps.report.results_file import DISTORTION, NELBO
from nelbo.sweeps.report.scales import DPI, digits, place
from nelbo.sweeps.report.style import SORTING, STYLE

MOST_STRIPS = 60
MOST_ERRORS = 5
PIXELS_PER_INCH = 86
STRIPS = (("samples", "samples from the prior"), ("reconstructions", "held-out images above, reconstructions below"))


@dataclass
class Section:
    """Cells that may stand in one picture.

    Args:
        name: of the data; empty if there is one section only.
        table: its rows.
        pictures: PNG files with title and caption.
    """

    name: str
    table: SweepTable
    pictures: list[tuple[str, str, Path]] = field(default_factory=list)


def page(table: SweepTable, sections: Sequence[Section], reason: str) -> str:
    """The whole page.

    Args:
        table: all cells.
        sections: what is drawn.
        reason: why there are several sections; empty if there is one.
    """
    name = html.escape(table.sweep.resolve().name)
    parts = [f"<h1>Sweep {name}</h1>", summary(table, comparable=not reason)]
    if reason:
        told = f"Not all cells are comparable, so those that are have pictures of their own: {html.escape(reason)}."
        parts.append(f'<p class="warning">{told}</p>')
    for section in sections:
        parts += section_parts(section)
    parts += [failures(table), cells(table, [section.table for section in sections]), foot(table)]
    head = f'<meta charset="utf-8"><title>Sweep {name}</title><style>{STYLE}</style>'
    body = f"{''.join(parts)}<script>{SORTING}</script>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'


def summary(table: SweepTable, *, comparable: bool) -> str:
    """The answer in a line, and how to have it again."""
    counts = {state: sum(row.cell.state == state for row in table.rows) for state in STATES}
    rest = ", ".join(f"{count} {state}" for state, count in counts.items() if count and state != "done")
    told = f"{counts['done']} of {len(table.rows)} cells done" + (f"; {rest}" if rest else "") + "."
    axes = "; ".join(f"<code>{html.escape(axis.key)}</code> {html.escape(values(axis.values))}" for axis in table.axes)
    parts = [f"<p>{told}" + (f" Swept: {axes}." if axes else "") + "</p>"]
    best = best_setting(table) if comparable else None
    if best is not None:
        parts.insert(0, answer(best, table))
    elif not table.done:
        parts.insert(0, no_result(table))
    return "".join(parts)


def no_result(table: SweepTable) -> str:
    """What is said of a sweep without a result: an error, unless there are cells that may still have one."""
    errors = grouped_errors(row.cell for row in table.rows)
    if not errors or any(row.cell.state in ("pending", "running") for row in table.rows):
        return '<p class="warning">No cell has finished yet.</p>'
    shown = "; ".join(f"{html.escape(error)} ({cells_of(count)})" for count, error in errors[:MOST_ERRORS])
    rest = f"; and {len(errors) - MOST_ERRORS} other errors" if len(errors) > MOST_ERRORS else ""
    return f'<p class="error">No cell has a result: {shown}{rest}.</p>'


def values(found: Sequence[bool | int | float | str | None]) -> str:
    """The values of an axis; of many, the ends."""
    if len(found) <= 12:
        return ", ".join(map(show, found))
    return f"{len(found)} values, {show(found[0])} to {show(found[-1])}"


def answer(best: Group, table: SweepTable) -> str:
    """The best setting and the command that runs it again."""
    chosen = f"Chosen by {judged_by(best)}. " if table.swept else ""
    return (
        f'<p class="answer">{"Best: " if table.swept else ""}{html.escape(setting(best, table))}:'
        f" <b>{result(best)}</b></p>"
        f"<p>{chosen}It runs again with</p><pre>{html.escape(command(best, table))}</pre>"
    )


def section_parts(section: Section) -> Iterable[str]:
    """Figures, means, strips."""
    if section.name:
        yield f"<h2>{html.escape(section.name)}</h2>"
        if best := best_setting(section.table):
            yield answer(best, section.table)
    for title, members in groupby(section.pictures, key=lambda picture: picture[0]):
        yield f"<h3>{html.escape(title)}</h3><div class='figures'>"
        for _, caption, file in members:
            yield f"<figure>{image(file, title)}<figcaption>{html.escape(caption)}</figcaption></figure>"
        yield "</div>"
    yield means(section.table)
    yield strips(section.table)


def image(file: Path, told: str) -> str:
    """A figure within the page, all text of one size."""
    with Image.open(file) as picture:
        width = round(picture.width / DPI * PIXELS_PER_INCH)
    return f'<img width="{width}" alt="{html.escape(told, quote=True)}" src="{embedded(file)}">'


def embedded(file: Path) -> str:
    """A PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def strips(table: SweepTable) -> str:
    """Small pictures of one seed of each setting, the best settings if they are too many."""
    chosen = [next((row for row in group.rows if row.done and pictured(row)), None) for group in table.groups]
    rows = [row for row in chosen if row is not None]
    if not rows:
        return ""
    kept = sorted(rows, key=score)[:MOST_STRIPS] if len(rows) > MOST_STRIPS else rows
    cards = []
    for row in kept:
        name, metric = ("−ELBO", NELBO) if NELBO in row.metrics else ("distortion", DISTORTION)
        found = [(row.cell.folder / "pictures" / f"{name}.png", told) for name, told in STRIPS]
        drawn = "".join(
            f'<img class="strip" alt="{told}" src="{embedded(file)}">' for file, told in found if file.is_file()
        )
        told = html.escape(place({axis.key: row.values[axis.key] for axis in table.axes}))
        cards.append(
            f"<div class='card'><div>{told}<br><b>{name} {digits(row.metrics.get(metric))}</b></div>{drawn}</div>"
        )
    caption = "Each: samples from the prior; below them, held-out images over their reconstructions."
    caption += " The same noise and the same images in every cell, one seed of each setting."
    if len(kept) < len(rows):
        caption += f" The best {len(kept)} of {len(rows)} settings."
    return f"<h3>Samples and reconstructions</h3><p>{caption}</p><div class='cards'>{''.join(cards)}</div>"


def pictured(row: Row) -> bool:
    """Whether a cell left strips."""
    return any((row.cell.folder / "pictures" / f"{name}.png").is_file() for name, _ in STRIPS)


def failures(table: SweepTable) -> str:
    """What went wrong where."""
    bad = [row for row in table.rows if row.cell.error]
    if not bad:
        return ""
    items = "".join(
        f"<li><b>{row.cell.state}</b> {html.escape(row.cell.folder.name)}: {html.escape(row.cell.error)}</li>"
        for row in bad
    )
    return f"<h2>Cells without a result</h2><ul class='failures'>{items}</ul>"


def foot(table: SweepTable) -> str:
    """When and how."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    where = shlex.quote(str(table.sweep.resolve()))
    return (
        f"<footer>Written {when}. Again: <code>python scripts/report.py sweep={html.escape(where)}</code>."
        f" Beside the curves of all cells: <code>tensorboard --logdir {html.escape(where)}</code>.</footer>"
    )
