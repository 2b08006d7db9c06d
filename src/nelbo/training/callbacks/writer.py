"""Access of callbacks to the loggers that show pictures, the model and the data."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytorch_lightning as pl
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from nelbo.data.run_data import RunData
from nelbo.models import Model
from nelbo.training import compat
from nelbo.training.callbacks.compat import add_image
from nelbo.training.module import VAEModule
from nelbo.views.grids import as_pixels

SHOW_PICTURES = (TensorBoardLogger, WandbLogger, MLFlowLogger)
"""Loggers that show pictures; a CSV table cannot."""


def writers(trainer: pl.Trainer) -> list[SummaryWriter]:
    """Return the writers of the run's TensorBoard loggers; none in processes other than the first."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def draws(trainer: pl.Trainer) -> bool:
    """Return whether this process has a logger that shows pictures."""
    return trainer.is_global_zero and any(isinstance(logger, SHOW_PICTURES) for logger in trainer.loggers)


def log_picture(trainer: pl.Trainer, tag: str, picture: Tensor, text: str) -> None:
    """Give a picture to every logger that shows pictures; to be called where `draws` is true.

    Args:
        trainer: its step is that of the picture.
        tag: the name, such as `pictures/samples`.
        picture: (C, height, width) in [0, 1].
        text: a description, which MLflow has no place for.
    """
    step = trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            add_image(logger.experiment, tag, picture, step, text)
        elif isinstance(logger, WandbLogger):
            logger.log_image(tag, [as_pixels(picture)], step=step, caption=[text])
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, as_pixels(picture), key=tag, step=step)


def model_of(pl_module: pl.LightningModule) -> Model:
    """Return the model that is trained."""
    assert isinstance(pl_module, VAEModule)
    return pl_module.model


def averaged_weights(pl_module: pl.LightningModule) -> AbstractContextManager[None]:
    """Return a context in which the model has the average of its weights, if the run averages them."""
    assert isinstance(pl_module, VAEModule)
    return pl_module.averaged_weights()


def data_of(trainer: pl.Trainer) -> RunData:
    """Return the data that the model is trained on."""
    data = compat.data_module_of(trainer)
    assert isinstance(data, RunData)
    return data
