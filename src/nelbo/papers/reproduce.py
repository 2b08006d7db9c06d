"""Reproduction of a row: training and evaluation by the ordinary commands, comparison, and a record of the result."""

from __future__ import annotations

import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from nelbo.config.quoting import quoted
from nelbo.directories.names import EVALUATION, METRICS
from nelbo.errors import USAGE_ERROR, DataError, NelboError
from nelbo.files import read_json
from nelbo.papers.records import PUBLISHED, add_record, check_records, compared, make_record, measures_of, read_records
from nelbo.papers.rows import ROWS, Row
from nelbo.terminal.console import make_console, print_table
from nelbo.terminal.programs import program

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that are passed on to the command that runs, which saves a checkpoint and ends."""


class Ended(NelboError):
    """A command that ended without a result.

    Args:
        name: the command, train or evaluate.
        status: its exit status.
    """

    def __init__(self, name: str, status: int) -> None:
        hint = {"train": "; the same command continues it", "evaluate": "; the same command repeats it"}[name]
        hint = "" if status == USAGE_ERROR else hint
        super().__init__(f"{name} ended with exit status {status}, and nothing was recorded{hint}")
        self.status = status


def reproduce(row: Row, folder: Path, out: Path, settings: Mapping[str, int | None]) -> dict[str, Any]:
    """Train a row in a run's directory, or resume it there, evaluate it, print the comparison and record it.

    Args:
        row: the row.
        folder: the run's directory; a complete run there is only evaluated.
        out: the file of the records.
        settings: `seed`, `threads`, `limit` (images) and `num_samples` of the command; None for those of the protocol.

    Returns:
        The record.

    Raises:
        Ended: if training or evaluation ended without a result.
        DataError: if the records cannot be read or written.
    """
    check_records(out)  # an error now and not after hours of training
    given = {key: value for key, value in settings.items() if value is not None}
    command = " ".join([program("reproduce"), f"row={row.name}", *(f"{key}={value}" for key, value in given.items())])
    console = make_console()
    console.print(f"train      {row.model} in {folder}: {shlex.join(row.training)}", highlight=False)
    _run("train", training_arguments(row, folder, given))
    seconds = _run("evaluate", evaluation_arguments(row, folder, given))
    evaluation = read_json(folder / EVALUATION)
    if evaluation.get(f"test/{row.measure}") is None:
        raise DataError(f"{folder / EVALUATION}: has no finite test/{row.measure}, so there is nothing to compare")
    record = make_record(row, command, given, read_json(folder / METRICS), evaluation, seconds)
    replaced = add_record(out, record)
    print_comparison(row, record)
    console.print(f"{'replaced' if replaced else 'recorded':<10} {record['id']} in {out}", highlight=False)
    return record


def training_arguments(row: Row, folder: Path, given: Mapping[str, object]) -> list[str]:
    """Return the arguments of `nelbo train` that begin the run of a row, or continue it."""
    settings = [f"{key}={given[key]}" for key in ("seed", "threads") if key in given]
    return [*row.training, *settings, f"hydra.run.dir={quoted(str(folder))}", "resume=auto"]


def evaluation_arguments(row: Row, folder: Path, given: Mapping[str, object]) -> list[str]:
    """Return the arguments of `nelbo evaluate` for the protocol of a row."""
    protocol: dict[str, object] = {"num_samples": row.num_samples} if row.num_samples else {}
    settings = {**protocol, **{key: given[key] for key in ("limit", "num_samples", "threads") if key in given}}
    metrics = f"metrics=[{','.join(measures_of(row))}]"
    return [f"run={folder}", metrics, *(f"{key}={value}" for key, value in settings.items())]


def _run(name: str, arguments: Sequence[str]) -> dict[str, float]:
    """Run a command of nelbo in a process of its own, to which signals are passed on.

    It has a process group of its own: a signal to the group of this process would otherwise reach it twice, and a
    second signal ends training at once, without a checkpoint.

    Returns:
        Its seconds, and those of the processor.

    Raises:
        Ended: if its exit status is not 0.
    """
    before, started = _cpu_seconds(), time.monotonic()
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # until there is a process to pass them on to
    process = subprocess.Popen(
        [sys.executable, "-m", f"nelbo.commands.{name}", *arguments],
        process_group=0,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON),
    )
    handlers = {number: signal.signal(number, lambda signum, _: process.send_signal(signum)) for number in PASSED_ON}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    try:
        status = process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if status:
        raise Ended(name, status if status > 0 else 128 - status)
    return {
        "evaluation_seconds": time.monotonic() - started,
        "evaluation_cpu_seconds": _cpu_seconds() - before,
    }


def _cpu_seconds() -> float:
    """Return the seconds of the processor that the ended processes of this one have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def print_comparison(row: Row, record: Mapping[str, Any]) -> None:
    """Print our number beside the published one; the evaluation has printed its warnings."""
    ours, error, gap = compared(row, record)
    values, digits = record["values"], 2 if row.unit == "nats" else 3
    table = Table(title=f"{row.name}: {row.citation}, {row.place}")
    for header in (f"{row.unit}, lower is better", "published", "ours", "gap", "in standard errors"):
        table.add_column(header, justify="left" if header.startswith(row.unit) else "right")
    cells = (f"{row.published:.2f}", f"{ours:.{digits}f} ± {error:.{digits}f}", f"{gap:+.{digits}f}")
    table.add_row(row.protocol, *cells, f"{gap / error:+.1f}" if error else "-")
    console = make_console()
    print_table(table, console)
    if "nll_images" in values:
        console.print(f"measured   {values['nll_images']:,} images, {values['nll_samples']:,} samples", highlight=False)
    minutes = [record[key] for key in ("train_cpu_seconds", "evaluation_cpu_seconds")]
    shown = [f"{one / 60:.1f}" if one is not None else "unknown" for one in minutes]
    console.print(f"CPU        {shown[0]} minutes of training, {shown[1]} of evaluation", highlight=False)
    if record["modified"]:
        console.print("note       the code was modified: the record says so; commit it and repeat", highlight=False)


def print_rows(out: Path) -> None:
    """Print all rows, with the published numbers and ours.

    Args:
        out: the file of the records.

    Raises:
        DataError: if the records cannot be read.
    """
    records = {one["id"]: one for one in read_records(out) if one.get("table") == PUBLISHED}
    table = Table(title="rows of papers; nats or bits/dim, lower is better")
    for header in ("row", "published", "ours", "needs", "protocol", "what"):
        table.add_column(header, justify="right" if header in ("published", "ours") else "left")
    for row in ROWS.values():
        ours = "-"
        if row.name in records:
            value, error, _ = compared(row, records[row.name])
            ours = f"{value:.2f} ± {error:.2f}"
        needs = "GPU" if row.needs_gpu else "60 CPU min" if row.is_short else ""
        table.add_row(row.name, f"{row.published:.2f}", ours, needs, row.protocol, f"{row.model} ({row.place})")
    print_table(table, make_console())
