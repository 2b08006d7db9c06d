"""Two small pictures of the best checkpoint, for comparing many runs."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch

from nelbo.errors import positive_integer
from nelbo.numerics.randomness import isolated
from nelbo.training.batches import given_context
from nelbo.training.callbacks.writer import data_of, model_of
from nelbo.views.codes import modes
from nelbo.views.conditions import given, sample_context
from nelbo.views.grids import grid, save_png

STRIPS = ("samples", "reconstructions")
SEED = 0


class Strips(pl.Callback):
    """Writes `pictures/samples.png` and `pictures/reconstructions.png` (with the held-out images above) after the test.

    Noise and images are the same in every run, so that the pictures of a sweep can be compared.

    Args:
        num_images: number of images in each picture.
    """

    def __init__(self, *, num_images: int) -> None:
        self.num_images = positive_integer("num_images", num_images)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write the pictures."""
        if not trainer.is_global_zero:
            return
        model = model_of(pl_module)
        if data_of(trainer).table:  # its rows are no pictures
            return
        with torch.no_grad(), isolated(SEED):
            batch = data_of(trainer).examples(self.num_images).to(pl_module.device)
            context = given_context(model, batch)
            drawn = given(model, sample_context(model, context, self.num_images, self.num_images))
            samples, each = drawn.generate(self.num_images).mean, given(model, context)
            pairs = torch.stack([batch.x, each.decode(*modes(each, batch.x)).mean])
        folder = Path(trainer.default_root_dir) / "pictures"
        for name, images in zip(STRIPS, (samples.unsqueeze(0), pairs), strict=True):
            save_png(grid(images, values=model.value_range), folder / f"{name}.png")
