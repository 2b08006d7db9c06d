"""The table of a sweep for other programs: results.csv and results.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from nelbo.files import write_json, write_text
from nelbo.sweeps.report.cell_table import Row, SweepTable, pareto

RATE, DISTORTION, NELBO, NLL, ACTIVE = "test/kl", "test/reconstruction", "test/nelbo", "test/nll", "test/active_units"
CSV, JSON = "results.csv", "results.json"


def write_results(table: SweepTable, best: Mapping[str, Any] | None) -> None:
    """Both files, whole or not at all; what is no single value, such as the environment, is in the second alone.

    Args:
        table: all cells.
        best: what is written of the best setting; None if there is none.
    """
    rows = [flat(row, table) for row in table.rows]
    several = {key for row in rows for key, value in row.items() if isinstance(value, Mapping | list)}
    single = [name for name in table.metrics if name not in several]
    columns = [axis.key for axis in table.axes] + [*single, "state", "error", "directory"]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(table.sweep / CSV, text.getvalue())
    content = {
        "axes": {axis.key: axis.values for axis in table.axes},
        "best": best,
        "pareto_front": [row.cell.folder.name for row in front(table)],
        "cells": rows,
    }
    write_json(table.sweep / JSON, content)


def flat(row: Row, table: SweepTable) -> dict[str, Any]:
    """A cell in one line."""
    swept = {axis.key: row.values[axis.key] for axis in table.axes}
    metrics = {key: row.metrics[key] for key in table.metrics if key in row.metrics}
    fate = {"state": row.cell.state, "error": row.cell.error, "directory": row.cell.folder.name}
    return {**metrics, **swept, **fate}


def front(table: SweepTable) -> list[Row]:
    """The finished cells that no other beats in both rate and distortion, by ascending rate."""
    rows = [row for row in table.done if RATE in row.metrics and DISTORTION in row.metrics]
    return [rows[index] for index in pareto([(row.metrics[RATE], row.metrics[DISTORTION]) for row in rows])]
