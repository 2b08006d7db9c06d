"""Random states in checkpoints, which make a resumed run equal to an uninterrupted one, bit for bit."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from nelbo.numerics.randomness import restore, states

log = logging.getLogger(__name__)
KEY = "random_states"


class RandomStates(pl.Callback):
    """Saves the random states of all processes and devices, and what else determines the last bits of results.

    The states are restored when training starts. Nothing is drawn from them before: order, augmentation and noise of
    the data are functions of (seed, epoch, index), and validation restores the random state of training.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all processes."""
        own = states(pl_module.device)
        ranks = [own]
        if trainer.world_size > 1:
            ranks = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(ranks, own)
        checkpoint[KEY] = {"ranks": ranks, "last_bits": last_bits(pl_module.device), "precision": trainer.precision}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the states until training starts."""
        self._loaded = checkpoint[KEY]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the states; in a new run, seed processes that train together differently."""
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            if trainer.world_size > 1:
                torch.manual_seed(torch.initial_seed() + trainer.global_rank)
            return
        if len(loaded["ranks"]) != trainer.world_size:  # a new random stream for each process
            place = [torch.initial_seed(), trainer.global_step, trainer.world_size, trainer.global_rank]
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
            return
        restore(loaded["ranks"][trainer.global_rank], pl_module.device)
        before = loaded.get("precision", trainer.precision)  # which older checkpoints lack
        if before != trainer.precision and trainer.is_global_zero:
            log.warning("the run resumes with trainer.precision %s instead of %s", trainer.precision, before)
        current = last_bits(pl_module.device)
        for name, saved in loaded["last_bits"].items():
            if current[name] != saved and trainer.is_global_zero:
                text = "the run resumes with %s %s instead of %s: its results will differ in the last bits"
                log.warning(text, name, current[name], saved)


def last_bits(device: torch.device) -> dict[str, Any]:
    """Return what the rounding of sums depends on: results differ in the last bits if one of these values differs."""
    return {"device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
