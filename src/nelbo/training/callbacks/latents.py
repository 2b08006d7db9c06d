"""KL per latent unit, and the projector.

Shapes: N examples, C H W image, D latent dimensions.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from nelbo.distributions import mean_of
from nelbo.errors import positive_integer
from nelbo.training.callbacks.writer import data_of, model_of, writers
from nelbo.training.module import VAEModule
from nelbo.views.codes import features

THUMBNAIL = 64


class LatentUnits(pl.Callback):
    """The KL of each unit (D,), in nats, over the validation set, as a histogram."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log."""
        assert isinstance(pl_module, VAEModule)
        for writer in writers(trainer):
            if pl_module.unit_kl is not None:
                writer.add_histogram("val/kl_per_unit", pl_module.unit_kl.cpu(), trainer.global_step)


class Projector(pl.Callback):
    """After training: codes of held-out examples with their labels and pictures, for TensorBoard's projector.

    Args:
        num_examples: how many.
    """

    def __init__(self, *, num_examples: int) -> None:
        self.num_examples = positive_integer("num_examples", num_examples)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write."""
        if not writers(trainer):
            return
        data = data_of(trainer)
        x, labels = data.examples(self.num_examples)
        names = [data.classes[label] if data.classes and label >= 0 else str(label) for label in labels.tolist()]
        model = model_of(pl_module)
        model.eval()  # a codebook follows what is encoded in training
        with torch.no_grad():
            codes = features(model, mean_of(model.encode(x.to(pl_module.device)))).cpu()
        model.train()
        for writer in writers(trainer):
            writer.add_embedding(
                codes, metadata=names, label_img=thumbnails(x), global_step=trainer.global_step, tag="codes"
            )


def thumbnails(x: Tensor) -> Tensor:
    """Images (N, C, H, W) as squares of at most `THUMBNAIL` pixels: TensorBoard puts them all into one picture."""
    height, width = x.shape[2:]
    side = max(height, width)
    squares = functional.pad(x, (0, side - width, 0, side - height))
    return squares if side <= THUMBNAIL else functional.interpolate(squares, (THUMBNAIL, THUMBNAIL), mode="area")
