"""A table of the model's parts, printed before training."""

from __future__ import annotations

import pytorch_lightning as pl
from rich.table import Table
from torch import nn

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
        latents, *classes = model.events[0]
        description = f"{latents} latents{f' of {classes[0]} classes' if classes else ''}"
        table = Table("part", "class", "shapes", title=f"{type(model).__name__} with {description}")
        table.add_column("parameters", justify="right")
        for name, part in model.named_children():
            shapes = f"{_shape(part.in_shape)} to {_shape(part.out_shape)}" if isinstance(part, Net) else ""
            table.add_row(name, type(part).__name__, shapes, f"{_size(part):,}")
        table.add_section()
        table.add_row("total", "", "", f"{_size(model):,}")
        print_table(table, make_console(stderr=True))


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
