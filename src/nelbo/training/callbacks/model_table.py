"""A table of the model's parts, printed before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import pytorch_lightning as pl
from rich.table import Table
from torch import nn

from nelbo.models import Model
from nelbo.nets import Net
from nelbo.terminal.console import make_console, print_table
from nelbo.training.callbacks.writer import model_of


class ModelTable(pl.Callback):
    """Prints a table of the model's parts with their classes, shapes and numbers of parameters."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table."""
        if not trainer.is_global_zero:
            return
        model = model_of(pl_module)
        table = Table("part", "class", "shapes", title=f"{type(model).__name__} with {describe_latents(model)}")
        table.add_column("parameters", justify="right")
        for name, kind, shapes, size in parts(model):
            table.add_row(name, kind, shapes, f"{size:,}")
        table.add_section()
        table.add_row("total", "", "", f"{_size(model):,}")
        print_table(table, make_console(stderr=True))


def describe_latents(model: Model) -> str:
    """Return the shapes of the latents for the title, top level first."""
    if len(model.events) > 1:
        return f"{len(model.events)} levels of latents: {', '.join(_shape(event) for event in model.events)}"
    units, *rest = model.events[0]
    if len(rest) == 2:
        return f"latents of shape {_shape(model.events[0])}"
    return f"{units} latents{f' of {rest[0]} classes' if rest else ''}"


def parts(model: Model) -> Iterator[tuple[str, str, str, int]]:
    """Yield name, class, shapes and number of parameters of each part of a model.

    A list of modules with one for each level below the top is split into levels; neighbours of the same shape and size
    share a row.
    """
    for name, parameter in model.named_parameters(recurse=False):
        yield name, type(parameter).__name__, _shape(parameter.shape), parameter.numel()
    for name, part in model.named_children():
        if isinstance(part, nn.ModuleList) and len(part) == len(model.events) - 1:
            yield from _levels(part, model.events[1:])
            continue
        shapes = f"{_shape(part.in_shape)} to {_shape(part.out_shape)}" if isinstance(part, Net) else ""
        yield name, type(part).__name__, shapes, _size(part)


def _levels(below: nn.ModuleList, events: Sequence[tuple[int, ...]]) -> Iterator[tuple[str, str, str, int]]:
    """Yield the rows of the levels below the top."""
    rows = [(type(level).__name__, _shape(event), _size(level)) for level, event in zip(below, events, strict=True)]
    first = 2
    for (kind, shape, size), same in groupby(rows):
        count = len(list(same))
        if count == 1:
            yield f"level {first}", kind, shape, size
        else:
            yield f"levels {first} to {first + count - 1}", kind, f"{shape} each", size * count
        first += count


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
