"""TensorBoard's hparams tab and its custom scalars."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from nelbo.training import compat
from nelbo.training.callbacks.writer import writers
from nelbo.training.module import VAEModule

LAYOUT = {
    "rate, distortion, ELBO (nats per image)": {
        "negative ELBO": ["Multiline", ["train/nelbo", "val/nelbo"]],
        "rate: KL(q(z|x) || p(z))": ["Multiline", ["train/kl", "val/kl"]],
        "distortion: -log p(x|z)": ["Multiline", ["train/reconstruction", "val/reconstruction"]],
    }
}


class Dashboard(pl.Callback):
    """Fills the hparams tab; lays rate, distortion and ELBO side by side.

    Args:
        hyperparameters: flat, of plain values.
    """

    def __init__(self, hyperparameters: dict[str, Any]) -> None:
        self.hyperparameters = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in hyperparameters.items()
        }

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what will come: the tab takes each metric from the scalar of the same name."""
        assert isinstance(pl_module, VAEModule)
        metrics = dict.fromkeys(pl_module.metric_names("test"), 0.0)
        for writer in writers(trainer):
            compat.add_hparams(writer, self.hyperparameters, metrics)
            writer.add_custom_scalars(LAYOUT)
