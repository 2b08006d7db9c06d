"""The report of a sweep: results.csv, results.json, report.html, its figures as PNG and in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nelbo.files import write_text
from nelbo.sweeps.report.best import best_line, plain_best
from nelbo.sweeps.report.cell_table import SweepTable, read_table
from nelbo.sweeps.report.curves import learning_curves
from nelbo.sweeps.report.heatmaps import heat_maps
from nelbo.sweeps.report.hparams import write_board
from nelbo.sweeps.report.linear import truth
from nelbo.sweeps.report.page import Section, page
from nelbo.sweeps.report.plane import rate_distortion
from nelbo.sweeps.report.results_file import write_results
from nelbo.sweeps.report.scales import Picture, scale_of
from nelbo.sweeps.report.sections import comparable, titles

HTML, FIGURES = "report.html", "report"


def write_report(sweep: Path, allow: Sequence[str] = ()) -> Path:
    """Write all of it anew, of whatever has finished; where the page is.

    Args:
        sweep: the sweep's directory.
        allow: packages of one's own that may make its data, of which linear models have an exact answer.

    Raises:
        SweepError: if it is none.
    """
    table = read_table(sweep)
    reason, tables = comparable(table)
    write_results(table, None if reason else plain_best(table))
    folder = sweep / FIGURES
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    sections, shown = [], []
    names = titles(tables) if reason else [""]
    for index, (name_of_part, part) in enumerate(zip(names, tables, strict=True)):
        section = Section(name_of_part, part)
        for picture in pictures(part, allow):
            name = f"{picture.name}_{index + 1}" if reason else picture.name
            file = folder / f"{name}.png"
            picture.figure.savefig(file)
            section.pictures.append((picture.title, picture.caption, file))
            shown.append((name, file))
        sections.append(section)
    write_board(table, shown)
    write_text(sweep / HTML, page(table, sections, reason))
    return sweep / HTML


def say_best(sweep: Path) -> str:
    """The best setting of a sweep in a line of text, or why there is none; empty if no cell has a result."""
    table = read_table(sweep)
    reason, _ = comparable(table)
    return f"no setting is the best: {reason}" if reason else best_line(table)


def pictures(table: SweepTable, allow: Sequence[str] = ()) -> list[Picture]:
    """All figures of cells that are comparable."""
    scale = scale_of(table)
    plane = rate_distortion(table, scale, truth(table.rows, allow))
    curves = learning_curves(table, scale)
    return [picture for picture in (plane, *heat_maps(table), curves) if picture is not None]
