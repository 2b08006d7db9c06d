"""The results of a sweep for other programs: results.csv and results.json."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from nelbo.files import write_json, write_text
from nelbo.sweeps.report.cell_table import Row, SweepTable, pareto
from nelbo.sweeps.report.metric_names import KL, RECONSTRUCTION

CSV, JSON = "results.csv", "results.json"


def write_results(table: SweepTable, best: Mapping[str, Any] | None) -> None:
    """Write both files; mappings and lists, such as the environment, are in the JSON file only.

    Args:
        table: all cells.
        best: the entry of the best setting; None if there is none.
    """
    rows = [flat(row, table) for row in table.rows]
    nested = {key for row in rows for key, value in row.items() if isinstance(value, Mapping | list)}
    single = [name for name in table.metrics if name not in nested]
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
    """Return the metrics, swept values, state, error and directory of a cell as one mapping."""
    swept = {axis.key: row.values[axis.key] for axis in table.axes}
    metrics = {key: row.metrics[key] for key in table.metrics if key in row.metrics}
    status = {"state": row.cell.state, "error": row.cell.error, "directory": row.cell.folder.name}
    return {**metrics, **swept, **status}


def front(table: SweepTable) -> list[Row]:
    """Return the Pareto-optimal finished cells in rate and distortion, by ascending rate."""
    rows = [row for row in table.done if KL in row.metrics and RECONSTRUCTION in row.metrics]
    return [rows[index] for index in pareto([(row.metrics[KL], row.metrics[RECONSTRUCTION]) for row in rows])]
