"""The KL of each latent unit, and codes for TensorBoard's projector.

Shapes: N examples, C H W image, D latent dimensions.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from nelbo.distributions import mean_of
from nelbo.errors import positive_integer
from nelbo.training.batches import given_context
from nelbo.training.callbacks.writer import data_of, model_of, writers
from nelbo.training.module import VAEModule
from nelbo.views.grids import as_pictures

THUMBNAIL = 64
"""Largest width and height of pictures in the projector, in pixels."""


class LatentUnits(pl.Callback):
    """Logs a histogram of the KL of each latent unit in nats, averaged over the validation set, for each level."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the histograms."""
        assert isinstance(pl_module, VAEModule)
        if pl_module.unit_kl is None or pl_module.kl_per_unit is None:
            return
        levels = pl_module.kl_per_unit.by_level("val/kl_per_unit", pl_module.unit_kl.cpu())
        for writer in writers(trainer):
            for tag, values in levels.items():
                writer.add_histogram(tag, values, trainer.global_step)


class Projector(pl.Callback):
    """Writes codes of held-out examples for TensorBoard's projector after training, with their labels and pictures.

    Of several levels it writes the top one, as `codes_of_the_top_level`.

    Args:
        num_examples: number of examples.
    """

    def __init__(self, *, num_examples: int) -> None:
        self.num_examples = positive_integer("num_examples", num_examples)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write codes, labels and pictures."""
        if not writers(trainer):
            return
        data = data_of(trainer)
        batch = data.examples(self.num_examples)
        x, labels = batch.x, batch.labels
        names = [data.classes[label] if data.classes and label >= 0 else str(label) for label in labels.tolist()]
        model = model_of(pl_module)
        model.eval()  # in training mode encoding changes a codebook
        with torch.no_grad():
            there = batch.to(pl_module.device)
            codes = model.features(mean_of(model.encode(there.x, given_context(model, there)))).cpu()
        model.train()
        tag = "codes" if len(model.events) == 1 else "codes_of_the_top_level"
        for writer in writers(trainer):
            shown = thumbnails(as_pictures(x, model.value_range, is_vector=x.ndim == 2).clamp(0, 1))
            writer.add_embedding(codes, metadata=names, label_img=shown, global_step=trainer.global_step, tag=tag)


def thumbnails(x: Tensor) -> Tensor:
    """Return images (N, C, H, W) padded to squares and reduced to at most `THUMBNAIL` pixels a side.

    TensorBoard puts them into one picture, as a grid of equal squares.
    """
    height, width = x.shape[2:]
    side = max(height, width)
    squares = functional.pad(x, (0, side - width, 0, side - height))
    return squares if side <= THUMBNAIL else functional.interpolate(squares, (THUMBNAIL, THUMBNAIL), mode="area")
