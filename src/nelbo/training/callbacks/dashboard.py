"""TensorBoard's hparams tab and custom scalars."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from nelbo.training import compat
from nelbo.training.callbacks.writer import writers
from nelbo.training.module import VAEModule

LAYOUT = {
    "negative ELBO, KL and reconstruction (nats per image)": {
        "negative ELBO": ["Multiline", ["train/nelbo", "val/nelbo"]],
        "KL: KL(q(z|x) || p(z))": ["Multiline", ["train/kl", "val/kl"]],
        "reconstruction: -log p(x|z)": ["Multiline", ["train/reconstruction", "val/reconstruction"]],
    }
}
"""Titles and tags of the charts in the custom scalars tab."""


class Dashboard(pl.Callback):
    """Fills TensorBoard's hparams tab, and puts the charts of negative ELBO, KL and reconstruction side by side.

    Args:
        hyperparameters: hyperparameters by name; values that are neither numbers nor strings are shown as text.
    """

    def __init__(self, hyperparameters: dict[str, Any]) -> None:
        self.hyperparameters = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in hyperparameters.items()
        }

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the hyperparameters and the names of the test metrics, whose values are scalars of the same name."""
        assert isinstance(pl_module, VAEModule)
        metrics = dict.fromkeys(pl_module.metric_names("test"), 0.0)
        for writer in writers(trainer):
            compat.add_hparams(writer, self.hyperparameters, metrics)
            writer.add_custom_scalars(LAYOUT)
