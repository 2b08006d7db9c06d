"""Writing the report of a sweep: results.csv, results.json, report.html, and its figures as PNG and in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context

from nelbo.files import write_text
from nelbo.sweeps.report.beside import Beside, regrets_picture
from nelbo.sweeps.report.best import best_entry, best_line
from nelbo.sweeps.report.cell_table import SweepTable, read_table
from nelbo.sweeps.report.curves import learning_curves
from nelbo.sweeps.report.heatmaps import heat_maps
from nelbo.sweeps.report.hparams import write_board
from nelbo.sweeps.report.linear import truth
from nelbo.sweeps.report.origin import Origin
from nelbo.sweeps.report.page import render
from nelbo.sweeps.report.page_content import SavedPicture, Section, page_content
from nelbo.sweeps.report.plane import rate_distortion
from nelbo.sweeps.report.results_file import write_results
from nelbo.sweeps.report.scales import Picture, scale_of
from nelbo.sweeps.report.sections import comparable, titles

HTML, FIGURES = "report.html", "report"


def write_report(sweep: Path, allow: Sequence[str] = ()) -> Path:
    """Write the report of the cells that have finished, in place of an earlier one.

    Args:
        sweep: the directory of the sweep.
        allow: prefixes of the user's own packages whose classes a data config may name; the exact answers of linear
            models need the data.

    Returns:
        The file of the page.

    Raises:
        SweepError: if the directory is not one of a sweep.
    """
    table = read_table(sweep)
    reason, tables = comparable(table)
    write_results(table, None if reason else best_entry(table))
    folder = sweep / FIGURES
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    sections, files = [], []
    names = titles(tables) if reason else [""]
    for index, (name, part) in enumerate(zip(names, tables, strict=True)):
        section = Section(name, part)
        with rc_context({"text.parse_math": False}):  # a value may contain $
            for picture in pictures(part, allow):
                file = folder / (f"{picture.name}_{index + 1}.png" if reason else f"{picture.name}.png")
                picture.figure.savefig(file)
                section.pictures.append(SavedPicture(picture.title, picture.caption, file, picture.description))
                files.append((file.stem, file))
        sections.append(section)
    origin = Origin.read(sweep)
    if origin:
        across = [
            SavedPicture(own.title, own.caption, sweep / own.file, f"{own.title}. {own.caption}")
            for own in origin.pictures
        ]
        sections[0].pictures[1:1] = across  # after the plane
    write_board(table, files)
    write_text(sweep / HTML, render(page_content(table, sections, reason, origin)))
    return sweep / HTML


def say_best(sweep: Path) -> str:
    """Return the best setting of a sweep in one line, or why there is none; empty if no cell has a result."""
    table = read_table(sweep)
    reason, _ = comparable(table)
    return f"no setting is the best: {reason}" if reason else best_line(table)


def pictures(table: SweepTable, allow: Sequence[str] = ()) -> list[Picture]:
    """Draw all figures of cells that are comparable with each other.

    Args:
        table: the cells.
        allow: prefixes of the user's own packages whose classes a data config may name.
    """
    scale = scale_of(table)
    stored = Beside.read(table.sweep)
    beside = stored.of_cells({row.cell.identity for row in table.done}) if stored else None
    plane = rate_distortion(table, scale, truth(table.rows, allow), beside)
    regrets = regrets_picture(beside) if beside else None
    curves = learning_curves(table, scale)
    return [picture for picture in (plane, regrets, *heat_maps(table), curves) if picture is not None]
