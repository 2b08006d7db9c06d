"""A user's own part of a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch

from nelbo.nets import MLP

__all__ = ["Float32Spy", "Wide"]


class Wide(MLP):
    """A network of one wide layer."""

    def __init__(self, in_shape: Sequence[int], shape: Sequence[int] | None = None, *, width: int) -> None:
        super().__init__(in_shape, shape, hidden=[width], activation="ReLU")


class Float32Spy(pl.Callback):
    """Notes how float32 is computed in the first batch of each stage.

    Args:
        file: for the notes, as JSON.
    """

    def __init__(self, file: str) -> None:
        self.file, self.notes = Path(file), dict[str, str]()

    def note(self, stage: str) -> None:
        self.notes.setdefault(stage, torch.backends.cudnn.conv.fp32_precision)
        self.file.write_text(json.dumps(self.notes))

    def on_train_batch_start(self, *arguments: object) -> None:
        self.note("train")

    def on_validation_batch_start(self, *arguments: object) -> None:
        self.note("val")

    def on_test_batch_start(self, *arguments: object) -> None:
        self.note("test")
