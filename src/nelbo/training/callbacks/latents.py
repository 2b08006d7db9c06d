"""The KL of each latent unit, and codes for TensorBoard's projector.

Shapes: N examples, C H W image, D latent dimensions.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from nelbo.distributions import mean_of
from nelbo.errors import positive_integer
from nelbo.training import compat
from nelbo.training.batches import given_context
from nelbo.training.callbacks.writer import data_of, draws, log_picture, model_of, writers
from nelbo.training.module import VAEModule
from nelbo.views.grids import as_pictures
from nelbo.views.unit_history import draw_unit_history

EACH_OF_THE_FIRST = 10
"""How many validations are each drawn; of the later ones, every tenth is."""

UNITS_TEXT = "KL(q(z_i|x) || p(z_i)) of each latent unit on the validation set, by epoch; the largest last value on top"

THUMBNAIL = 64
"""Largest width and height of pictures in the projector, in pixels."""


class LatentUnits(pl.Callback):
    """Logs the KL of each latent unit in nats, averaged over the validation set, as a picture for each level.

    A picture has a column for each validation so far. There is one after each of the first ten validations, after every
    tenth of the later ones, and at the end of training.
    """

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.kl: list[Tensor] = []
        """The KL of all units at each validation, (D,) each."""
        self._drawn = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the KLs of this validation, and log the pictures if they are due."""
        assert isinstance(pl_module, VAEModule)
        if trainer.sanity_checking or pl_module.unit_kl is None or pl_module.kl_per_unit is None:
            return
        self.epochs.append(round(compat.batches_started(trainer) / trainer.num_training_batches, 2))
        self.kl.append(pl_module.unit_kl.detach().cpu())
        if len(self.epochs) <= EACH_OF_THE_FIRST or len(self.epochs) % EACH_OF_THE_FIRST == 0:
            self._draw(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures of all validations, unless the last one was drawn."""
        assert isinstance(pl_module, VAEModule)
        if self._drawn < len(self.epochs):
            self._draw(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the epochs and KLs of the validations so far."""
        return {"epochs": self.epochs, "kl": torch.stack(self.kl) if self.kl else None, "drawn": self._drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs and KLs of the validations so far."""
        self.epochs, self._drawn = list(state_dict["epochs"]), state_dict["drawn"]
        self.kl = [] if state_dict["kl"] is None else list(state_dict["kl"].cpu())

    def _draw(self, trainer: pl.Trainer, pl_module: VAEModule) -> None:
        self._drawn = len(self.epochs)
        assert pl_module.kl_per_unit is not None
        if not draws(trainer):
            return
        by_level = [pl_module.kl_per_unit.by_level("pictures/kl_per_unit", kl) for kl in self.kl]
        for tag in by_level[-1]:
            picture = draw_unit_history(torch.stack([levels[tag] for levels in by_level]), self.epochs)
            log_picture(trainer, tag, picture, UNITS_TEXT)


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
