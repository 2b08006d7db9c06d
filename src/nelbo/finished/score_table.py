"""Tables of evaluations and of comparisons, printed to the terminal."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from nelbo.files import write_json
from nelbo.finished.compare import Cell, Comparison
from nelbo.finished.evaluation_file import JSON, without_infinities
from nelbo.terminal.console import make_console, print_side_by_side, print_table

if TYPE_CHECKING:
    from nelbo.finished.evaluate import Evaluation

LABELS = {"nelbo": "negative ELBO", "distortion": "reconstruction", "rate": "KL", "nll": "importance-sampled NLL"}
"""Names of values that evaluation.json has under another key."""

MAX_LENGTH = 40
"""The largest number of characters of a text in a table."""


def print_results(evaluation: Evaluation) -> None:
    """Print the results of an evaluation, its warnings, the measures that were left out, and the files written."""
    results, subject = evaluation.results, evaluation.subject
    console = make_console()
    if evaluation.findings:
        images = f"{len(subject.images):,} {subject.split} images"
        setting = f" at {evaluation.run.setting_name}" if evaluation.run.setting else ""
        title = (
            f"{subject.name}{setting}: {subject.data['data']} ({subject.data['protocol']}), {images}; nats per image"
        )
        table = Table(title=title)
        for name, justify in (("measure", "left"), ("value", "right"), ("standard error", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for measure, findings in evaluation.findings.items():
            table.add_row(measure, style="bold")
            for key, value in findings.values.items():
                if key.endswith("_se") and key.removesuffix("_se") in findings.values:
                    continue
                error = findings.values.get(f"{key}_se")
                table.add_row(f"  {label(key)}", in_digits(value), "" if error is None else f"± {in_digits(error)}")
            table.add_section()
        print_table(table, console)
    for warning in dict.fromkeys(line for findings in evaluation.findings.values() for line in findings.warnings):
        console.print(f"note       {warning}", highlight=False, markup=False)
    for reason in evaluation.left_out:
        console.print(f"left out   {reason}", highlight=False, markup=False)
    if evaluation.findings:
        console.print(f"written    {os.path.relpath(results.folder / JSON)}", highlight=False, markup=False)
    for picture in evaluation.pictures:
        console.print(f"see        {os.path.relpath(picture)}", highlight=False, markup=False)


def print_comparison(comparison: Comparison, out: Path | None) -> None:
    """Print runs side by side.

    Args:
        comparison: the comparison.
        out: a JSON file to write it to; None for no file.
    """
    console = make_console()
    same = [label(key) for key, cells in comparison.rows.items() if is_same(cells)]
    rows = [[label(key), *map(in_cell, cells)] for key, cells in comparison.rows.items() if not is_same(cells)]
    title = f"values; differences to {comparison.runs[0]} on the same images"
    if rows or not same:
        print_side_by_side(title, comparison.runs, rows, console)
    if same:
        console.print(f"same       in all runs: {', '.join(same)}", highlight=False, markup=False)
    for note in comparison.notes:
        console.print(f"note       {note}", highlight=False, markup=False)
    if out is not None:
        write_json(out, without_infinities(comparison.plain()))
        console.print(f"written    {out}", highlight=False, markup=False)


def is_same(cells: Sequence[Cell | None]) -> bool:
    """Return whether all runs have the same value, on each image too where it is known."""
    first, *others = cells
    return first is not None and all(
        cell is not None and cell.value == first.value and not cell.difference and not cell.difference_error
        for cell in others
    )


def label(key: str) -> str:
    """Return the name of a value, with its key in evaluation.json where that is another word.

    Examples:
        >>> label("rate"), label("test/nelbo"), label("fid")
        ('KL (rate)', 'test/negative ELBO (nelbo)', 'fid')
    """
    split, slash, name = key.rpartition("/")
    return f"{split}{slash}{LABELS[name]} ({name})" if name in LABELS else key


def in_cell(cell: Cell | None) -> str:
    """Return a value with its standard error and, on a second line, the difference with its own; `-` for no cell."""
    if cell is None:
        return "-"
    lines = [in_digits(cell.value) + (f" ± {in_digits(cell.error)}" if cell.error is not None else "")]
    if cell.difference is not None:
        error = f" ± {in_digits(cell.difference_error)}" if cell.difference_error is not None else ""
        sign = "+" if cell.difference >= 0 else ""
        lines.append(f"({sign}{in_digits(cell.difference)}{error})")
    return "\n".join(lines)


def in_digits(value: object) -> str:
    """Return a value as text: whole numbers in full, others rounded to at least three digits, long texts cut.

    Examples:
        >>> in_digits(297), in_digits(90.4567), in_digits(0.00151234)
        ('297', '90.46', '0.00151')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        text = str(value)
        return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:,.{min(6, max(2, 2 - math.floor(math.log10(abs(value)))))}f}"
