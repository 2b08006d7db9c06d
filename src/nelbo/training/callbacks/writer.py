"""Access of callbacks to TensorBoard's writers, the model and the data."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from nelbo.data.run_data import RunData
from nelbo.models import Model
from nelbo.training import compat
from nelbo.training.module import VAEModule


def writers(trainer: pl.Trainer) -> list[SummaryWriter]:
    """Return the writers of the run's TensorBoard loggers; none in processes other than the first."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


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
