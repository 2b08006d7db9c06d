"""The hyperparameters in the loggers, and TensorBoard's custom scalars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import MLFlowLogger, WandbLogger

from nelbo.training.callbacks import compat
from nelbo.training.callbacks.writer import writers
from nelbo.training.module import VAEModule

Charts = dict[str, list[str | list[str]]]

CHARTS: Charts = {
    "negative ELBO": ["Multiline", ["train/nelbo", "val/nelbo"]],
    "KL: KL(q(z|x) || p(z))": ["Multiline", ["train/kl", "val/kl"]],
    "reconstruction: -log p(x|z)": ["Multiline", ["train/reconstruction", "val/reconstruction"]],
}
"""Titles and tags of the charts in the custom scalars tab."""


def layout(levels: Sequence[str]) -> dict[str, Charts]:
    """Return the charts of the custom scalars tab by the titles of their categories.

    Args:
        levels: the names of the KLs of the levels, top level first, such as `kl_level_1`; empty if there is one level.

    Example:
        >>> list(layout(["kl_level_1", "kl_level_2"]))[1]
        'KL of each level, the top is level 1 (nats per image)'
    """
    categories = {"negative ELBO, KL and reconstruction (nats per image)": CHARTS}
    if levels:
        splits = {"training": "train", "validation": "val"}
        charts: Charts = {
            title: ["Multiline", [f"{split}/{name}" for name in levels]] for title, split in splits.items()
        }
        categories["KL of each level, the top is level 1 (nats per image)"] = charts
    return categories


class Dashboard(pl.Callback):
    """Gives the loggers the hyperparameters, and puts TensorBoard's charts of the ELBO and its parts side by side.

    With several levels of latents, one more chart shows the KLs of all levels together.

    Args:
        hyperparameters: hyperparameters by name; values that are neither numbers nor strings are shown as text.
        name: the name of the run in TensorBoard's hparams tab.
    """

    def __init__(self, hyperparameters: dict[str, Any], name: str) -> None:
        self.hyperparameters = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in hyperparameters.items()
        }
        self.name = name

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the hyperparameters, and lay out the charts."""
        assert isinstance(pl_module, VAEModule)
        charts = layout(list(pl_module.example.by_level("kl")) if pl_module.example.has_kl else [])
        for writer in writers(trainer):
            compat.add_hparams(writer, self.hyperparameters, self.name)
            writer.add_custom_scalars(charts)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger | MLFlowLogger):
                logger.log_hyperparams(self.hyperparameters)
