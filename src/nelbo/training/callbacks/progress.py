"""The progress bar at a terminal, and progress lines in the log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import pytorch_lightning as pl
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from torch import Tensor

from nelbo.terminal.console import UNLIMITED, make_console
from nelbo.training import compat
from nelbo.training.callbacks.scalars import Throughput
from nelbo.training.module import VAEModule

log = logging.getLogger(__name__)
SECONDS_BETWEEN_UPDATES = 0.2

NARROW, WIDE = 72, 100
"""Terminal widths in columns: below the first the bar itself is omitted, from the second the elapsed time is shown."""

TIME = len("0:00:00")
MIN_BAR = 8
"""Columns of the shortest bar."""

VALIDATION = "validation"
MAIN = ("nelbo", "kl", "reconstruction", "objective")
"""The metrics that a short line of an epoch shows first."""

MOST_LEVELS = 6
"""Largest number of levels of latents whose KLs are part of the line of an epoch."""


class Terms(compat.MetricsColumn):
    """A column of metrics in one line, such as `nelbo 94.21  kl 24.51`, cut at its end if there is not enough room."""

    def get_table_column(self) -> Column:
        """Return a column whose text is not wrapped."""
        return Column(no_wrap=True)

    def texts(self, metrics: Mapping[Any, Any]) -> Iterator[str]:
        """Yield the name and value of each metric."""
        yield from (f"{name} {value}" for name, value in metrics.items())


class ProgressBar(compat.RichBar):
    """Lightning's rich progress bar, redrawn five times a second instead of every step, and only at a terminal."""

    def __init__(self) -> None:
        # Log lines pass through the console of the bar, and names in them are not markup.
        super().__init__(console_kwargs={"markup": False, "emoji": False})
        self._last = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Disable the bar without a terminal; `EpochLines` writes to the log instead."""
        super().setup(trainer, pl_module, stage)
        if not make_console().is_terminal:
            self.disable()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send log lines through rich from here on, which prints them above the bar."""
        super().on_train_start(trainer, pl_module)
        _send_logs_to(sys.stderr)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Send log lines to the standard error again, because rich has removed its stream with the bar."""
        super().teardown(trainer, pl_module, stage)
        _send_logs_to(sys.stderr)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Redraw the bar, at most every `SECONDS_BETWEEN_UPDATES` seconds, and after the last batch."""
        now = time.monotonic()
        if now - self._last > SECONDS_BETWEEN_UPDATES or trainer.is_last_batch:
            self._last = now
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def configure_columns(self, trainer: pl.Trainer) -> list[ProgressColumn]:
        """Return as many columns as the terminal has room for beside the metrics."""
        width = self.width
        self.set_metrics_column(Terms(trainer, self.theme.metrics, "  ", ""))

        def unwrapped() -> Column:
            return Column(no_wrap=True)

        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False, table_column=unwrapped())]
        if width >= NARROW:
            columns.append(BarColumn(None, table_column=Column(ratio=1)))
        columns.append(MofNCompleteColumn(table_column=unwrapped()))
        if width >= WIDE:
            columns.append(TimeElapsedColumn(table_column=unwrapped()))
        return [*columns, TimeRemainingColumn(table_column=unwrapped())]

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the objective's terms that fit into the line, at most two."""
        assert isinstance(pl_module, VAEModule)
        terms, width = pl_module.terms, self.width
        used = len(self.describe_epoch(trainer.current_epoch)) + 2 * len(str(self.total_train_batches)) + 1
        used += TIME + (MIN_BAR if width >= NARROW else 0) + (TIME if width >= WIDE else 0) + len("     ")
        shown: dict[str, int | str | float | dict[str, float]] = {}
        for name in ("nelbo", "kl") if "nelbo" in terms else tuple(terms)[:2]:
            shown[name] = value = f"{float(terms[name]):.4g}"
            used += len(f"  {name} {value}")
            if used > width and len(shown) > 1:
                del shown[name]
        return shown

    def describe_epoch(self, epoch: int) -> str:
        """Return the epoch, counted from 1 as in the log, padded to the length of `validation` to align the bars."""
        limit = self.trainer.max_epochs or -1
        return f"epoch {epoch + 1}{f'/{limit}' if limit > 0 else ''}".ljust(len(VALIDATION))

    @property
    def validation_description(self) -> str:
        """The text before the bar of a validation, padded to the length of that of training."""
        return VALIDATION.ljust(len(self.describe_epoch(self.trainer.current_epoch)))

    @property
    def test_description(self) -> str:
        """The text before the bar of the test, in lower case as the others."""
        return "test"


def _send_logs_to(stream: TextIO) -> None:
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:  # not a subclass, such as FileHandler
            handler.setStream(stream)


def without_many_levels(values: dict[str, Tensor | float]) -> dict[str, Tensor | float]:
    """Return values by name without the KLs of single levels if there are more than `MOST_LEVELS`."""
    levels = [name for name in values if "/kl_level_" in name]
    return values if len(levels) <= MOST_LEVELS else {name: values[name] for name in values if name not in levels}


def width_of_logs() -> int:
    """Return the columns of the terminal to which log lines go; without one, lines may have any length."""
    console = make_console(stderr=True)
    return console.width if console.is_terminal else UNLIMITED


def epoch_line(head: str, values: Mapping[str, float], tail: str, width: int) -> str:
    """Return the line of an epoch.

    Where it is too long for a row of the terminal, the split is named once, numbers have fewer digits and, if need be,
    only the most important values are shown; all of them are in `history.csv`.

    Args:
        head: the beginning.
        values: the values by metric, such as `val/nelbo`, all of one split.
        tail: the end.
        width: the columns of the terminal.

    Example:
        >>> epoch_line("epoch 1/2", {"val/kl": 2.3456789, "val/nelbo": 12.3456789}, "images/s=9", 40)
        'epoch 1/2 val  nelbo=12.35  images/s=9'
    """
    line = "  ".join([head, *(f"{name}={value:.6g}" for name, value in values.items()), tail])
    if len(line) <= width or not values:
        return line
    head = f"{head} {next(iter(values)).partition('/')[0]}"
    texts = {name: f"{name.rpartition('/')[2]}={value:.4g}" for name, value in values.items()}
    room = width - len(f"{head}  {tail}")
    kept = set()
    for name in sorted(values, key=importance):
        if (needed := len(texts[name]) + 2) <= room:
            room -= needed
            kept.add(name)
    return "  ".join([head, *(text for name, text in texts.items() if name in kept), tail])


def importance(name: str) -> int:
    """Return the rank of a metric, from 0, by which those are chosen that a short line shows."""
    last = name.rpartition("/")[2]
    return MAIN.index(last) if last in MAIN else len(MAIN)


class EpochLines(pl.Callback):
    """Logs a line after each validation, or after each epoch if there is no validation.

    Args:
        throughput: the callback that measures images per second.
    """

    def __init__(self, throughput: Throughput) -> None:
        self.throughput = throughput
        self._validated_step = self._epoch_over = -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line of a validation within an epoch; that of one at its end is logged when the epoch ends."""
        if trainer.sanity_checking:
            return
        self._validated_step = trainer.global_step
        if not trainer.is_last_batch:
            self._write(trainer, pl_module, f", step {trainer.global_step}")
        elif self._epoch_over == trainer.current_epoch:  # an additional validation, because a callback ended training
            self._write(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the line of an epoch that has ended."""
        self._epoch_over = trainer.current_epoch
        within = "" if trainer.is_last_batch else f", step {trainer.global_step}"
        if trainer.limit_val_batches:
            due = not within and self._validated_step == trainer.global_step
        else:
            due = trainer.should_stop or not (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1)
        if due:
            self._write(trainer, pl_module, within)

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, where: str = "") -> None:
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, VAEModule)
        validated = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
        trained = {f"train/{name}": value for name, value in pl_module.terms.items()}
        shown: dict[str, Tensor | float] = without_many_levels(dict(validated) or trained)
        head = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}{where}"
        tail = f"images/s={self.throughput.rate:.0f}"
        log.info("%s", epoch_line(head, {name: float(value) for name, value in shown.items()}, tail, width_of_logs()))
