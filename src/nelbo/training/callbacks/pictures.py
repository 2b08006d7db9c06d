"""Pictures in TensorBoard of what the model reconstructs and generates.

Shapes: C image channels.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch import Tensor

from nelbo.data.module import ImageData
from nelbo.errors import positive_integer
from nelbo.models import Model
from nelbo.numerics.randomness import isolated
from nelbo.pictures.latent import aggregate_posterior, manifold, reconstructions, traversals
from nelbo.training.callbacks.writer import averaged_weights, data_of, model_of, writers
from nelbo.views.grids import square

COLUMNS = 8
TRAVERSED_UNITS, TRAVERSED_EXAMPLES = 8, 512
MANIFOLD_SIDE = 16
AGGREGATE_EXAMPLES = 5000
SEED = 0


class Pictures(pl.Callback):
    """Logs reconstructions, samples and traversals; with two latents also the manifold and the aggregate posterior.

    The noise is the same every time, so that differences between steps are those of the model.

    Args:
        every_n_epochs: number of epochs between pictures; there are always some after the first and the last epoch.
    """

    def __init__(self, *, every_n_epochs: int) -> None:
        self.every_n_epochs = positive_integer("every_n_epochs", every_n_epochs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures, if they are due."""
        epoch = trainer.current_epoch + 1
        ends = trainer.should_stop or epoch == trainer.max_epochs
        if not writers(trainer) or (epoch % self.every_n_epochs and epoch != 1 and not ends):
            return
        model, data = model_of(pl_module), data_of(trainer)
        model.eval()
        with torch.no_grad(), isolated(SEED), averaged_weights(pl_module):
            for name, picture in pictures(model, data, pl_module.device):
                for writer in writers(trainer):
                    writer.add_image(name, picture, trainer.global_step)
        model.train()


def pictures(model: Model, data: ImageData, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Yield names and pictures (C, height, width) with values in [0, 1]."""
    x, _ = data.examples(4 * COLUMNS)
    yield "reconstructions (input above its reconstruction)", reconstructions(model, x.to(device), COLUMNS)
    yield "samples from the prior", square(model.generate(COLUMNS * COLUMNS).mean, COLUMNS)
    x, _ = data.examples(TRAVERSED_EXAMPLES)
    moved = traversals(model, x.to(device), TRAVERSED_UNITS, COLUMNS)
    yield "latent traversals (most active units, one a row)", moved
    if model.events[0] == (2,):
        yield "manifold (quantiles of the prior)", manifold(model, MANIFOLD_SIDE)
        x, labels = data.examples(AGGREGATE_EXAMPLES)
        codes = aggregate_posterior(model, x.to(device), labels, data.classes)
        yield "aggregate posterior (means, by label)", codes
