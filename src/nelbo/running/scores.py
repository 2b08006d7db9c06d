"""The scores of a run: its headline, and the table that is printed at its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from nelbo.terminal.console import make_console, print_table

BITS = "bits/dim"
BASES = {"uniform dequantisation": "of dequantised pixels"}
"""Additions to the unit bits/dim, by `bits_per_dim_by`, where they are not those of probabilities of pixel values."""

ROWS = (
    ("nelbo", "negative ELBO", "nats/image", ".2f"),
    ("reconstruction", "reconstruction", "nats/image", ".2f"),
    ("kl", "KL", "nats/image", ".2f"),
    ("bits_per_dim", "negative ELBO", BITS, ".4f"),
    ("accuracy", "accuracy of labels", "", ".4f"),
    ("active_units", "active units", "", ".0f"),
    ("top_level_active_units", "active units of the top level", "", ".0f"),
    ("code_perplexity", "code perplexity", "classes", ".1f"),
)

MOST_LEVELS = 6
"""Largest number of levels of latents whose KLs have a row each."""


def headline(metrics: Mapping[str, Any]) -> float:
    """Return the score of a run: its negative ELBO or, without one, reconstruction; of the validation set if any."""
    split = "val" if any(key.startswith("val/") for key in metrics) else "test"
    key = f"{split}/nelbo"
    return float(metrics[key if key in metrics else f"{split}/reconstruction"])


def print_summary(metrics: Mapping[str, Any], folder: Path) -> None:
    """Print the scores of a run, how long it trained, and where its files are.

    Args:
        metrics: of metrics.json.
        folder: the run's directory.
    """
    console = make_console()
    print_table(score_table(metrics), console)
    home = os.path.relpath(folder)
    rate, seconds, epochs = metrics["images_per_second"], metrics["train_seconds"], metrics["epochs"]
    steps = f" ({metrics['steps']:,} steps)" if "steps" in metrics else ""
    console.print(f"trained    {epochs} epochs{steps} in {seconds:.1f} s, {rate:,.0f} images/s", highlight=False)
    tested = ""
    if "ended_by" in metrics:
        console.print(f"ended by   {metrics['ended_by']}", highlight=False, markup=False)
        tested = f" (epoch {metrics['checkpoint_epoch']}, step {metrics['checkpoint_step']:,})"
    console.print(f"run        {home}", highlight=False)
    console.print(f"checkpoint {home}/checkpoints/best.ckpt{tested}", highlight=False)
    if (folder / "tensorboard").exists():
        console.print(f"look       tensorboard --logdir {shlex.quote(home)}", highlight=False)


def rows(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield key, name, unit and format of the rows of a table of scores, with the KL of each level if they are few."""
    levels = [key.removeprefix("test/") for key in metrics if key.startswith("test/kl_level_")]
    for row in ROWS:
        yield row
        if row[0] == "kl" and len(levels) <= MOST_LEVELS:
            for key in levels:
                number = key.removeprefix("kl_level_")
                yield key, f"KL, level {number}{' (top)' if number == '1' else ''}", "nats/image", ".2f"


def score_table(metrics: Mapping[str, Any]) -> Table:
    """Return the table of a run's scores on the validation and test sets."""
    validated = any(key.startswith("val/") for key in metrics)
    table = Table(title=f"{metrics['data']} ({metrics['protocol']}), best checkpoint")
    table.add_column("")
    if validated:
        table.add_column("validation", justify="right")
    table.add_column("test", justify="right", style="bold")
    table.add_column("")
    for key, name, unit, style in rows(metrics):
        if f"test/{key}" in metrics:
            values = [metrics[f"{split}/{key}"] for split in ("val", "test") if split == "test" or validated]
            unit = f"{unit} {BASES.get(metrics['bits_per_dim_by'], '')}".strip() if unit == BITS else unit
            table.add_row(name, *(format(value, style) for value in values), unit)
    return table
