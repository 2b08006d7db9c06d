"""Records of measured results: the list in docs/results.json, from which the tables of the documentation are made.

A record has the keys `id`, `table`, `command`, `commit` (that of the training; None if it was not recorded), `modified`
(whether the code differed from that commit), `seed`, `threads`, `machine`, `versions` and `values`; further keys are
optional.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from nelbo.errors import DataError, first_line
from nelbo.files import write_text
from nelbo.papers.rows import Row

PUBLISHED = "published"
"""The table of the records that `reproduce` makes."""

MODIFIED = "+changes"
"""How the commit of an environment ends if the code differed from it."""

VERSIONS = ("nelbo", "torch", "lightning", "hydra", "python")

MEASURED = (
    *("nll", "nll_se", "nll_samples", "nll_images", "nll_gain", "nll_pareto_k", "nll_untrusted"),
    *("nelbo", "nelbo_se", "distortion", "rate", "bits_per_dim"),
)
"""What a record takes from evaluation.json, without the name of the split."""


def read_records(file: Path) -> list[dict[str, Any]]:
    """Return the records of a file; none if it does not exist.

    Raises:
        DataError: if the file cannot be read or is not a list of records.
    """
    if not file.exists():
        return []
    try:
        records = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read ({first_line(error)}); repair it or move it away") from error
    if not isinstance(records, list) or not all(isinstance(one, dict) and "id" in one for one in records):
        raise DataError(f"{file}: is not a list of records, each with an id; repair it or move it away")
    return records


def add_record(file: Path, record: Mapping[str, Any]) -> bool:
    """Add a record to a file in place of the one with the same id, if there is one, and write the file atomically.

    Args:
        file: the file; it is created if it is missing.
        record: the record.

    Returns:
        Whether an earlier record was replaced.

    Raises:
        DataError: if the file cannot be read.
        OSError: if it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):
        records = read_records(file)
        places = [place for place, one in enumerate(records) if one["id"] == record["id"]]
        if places:
            records[places[0]] = dict(record)
        else:
            records.append(dict(record))
        write_text(file, json.dumps(records, indent=1, ensure_ascii=False) + "\n")
    return bool(places)


def check_records(file: Path) -> None:
    """Check that the records of a file can be read and written.

    Args:
        file: the file; it may be missing.

    Raises:
        DataError: if they cannot.
    """
    read_records(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {error.strerror or first_line(error)}") from error


def identifier(row: Row, settings: Mapping[str, object]) -> str:
    """Return the id of a record: the row's name, and the settings that make it another measurement.

    Args:
        row: the row.
        settings: those of the command that were given; `threads` and the paths do not count.

    Examples:
        >>> from nelbo.papers.rows import ROWS
        >>> identifier(ROWS["ladder2016"], {"limit": 200, "threads": 1})
        'ladder2016 limit=200'
    """
    counted = ("seed", "limit", "num_samples")
    return " ".join([row.name, *(f"{key}={settings[key]}" for key in counted if settings.get(key) is not None)])


def make_record(
    row: Row,
    command: str,
    settings: Mapping[str, object],
    metrics: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return the record of a row that was trained and evaluated.

    Args:
        row: the row.
        command: the command that reproduced it.
        settings: the settings of that command that were given.
        metrics: the content of the run's metrics.json.
        evaluation: the content of its evaluation.json.
        seconds: those of the evaluation, with the keys `evaluation_seconds` and `evaluation_cpu_seconds`.
    """
    environment = metrics["environment"]
    measures = [evaluation["measures"][name] for name in measures_of(row)]
    evaluated = measures[0]["environment"]["commit"]
    commit = environment["commit"]
    record: dict[str, Any] = {
        "id": identifier(row, settings),
        "table": PUBLISHED,
        "row": row.name,
        "command": command,
        "commit": None if commit is None else commit.removesuffix(MODIFIED),
        "modified": any(str(one).endswith(MODIFIED) for one in (commit, evaluated)),
        "seed": metrics["seed"],
        "threads": metrics["threads"],
        "machine": environment["processor"],
        "accelerator": environment["accelerator"],
        "versions": {name: environment[name] for name in VERSIONS},
        "train_seconds": _rounded(metrics["train_seconds"]),
        "train_cpu_seconds": _rounded(metrics["train_cpu_seconds"]),
        **{key: _rounded(value) for key, value in seconds.items()},
        "values": {
            "epochs": metrics["epochs"],
            "steps": metrics["steps"],
            **{key: value for key in MEASURED if (value := evaluation.get(f"test/{key}")) is not None},
        },
        "warnings": [line for measure in measures for line in measure["warnings"]],
    }
    if evaluated != commit:
        record["evaluation_commit"] = None if evaluated is None else evaluated.removesuffix(MODIFIED)
    if "resumed" in metrics:
        record["resumed"] = metrics["resumed"]
    return record


def measures_of(row: Row) -> Sequence[str]:
    """Return the names of the measures that a row is evaluated by."""
    return ("elbo", "nll") if row.num_samples else ("elbo",)


def compared(row: Row, record: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return our number, its standard error over images, and how far it is above the published one.

    Bits per dimension of pixel levels are a multiple of the negative ELBO, and so is their error.
    """
    values = record["values"]
    ours = float(values[row.measure])
    error = (
        values["nelbo_se"] * ours / values["nelbo"] if row.measure == "bits_per_dim" else values[f"{row.measure}_se"]
    )
    return ours, float(error), ours - row.published


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
