"""Random states in checkpoints, so that a run that goes on is the run that was not interrupted, bit for bit."""

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
    """Saves the random states of every process on all devices, and what the last bits depend on besides.

    They are put back when training starts. Nothing draws before: orders, augmentation and noise of the data are
    functions of (seed, epoch, index), and validation gives training its random state back.
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
        checkpoint[KEY] = {"ranks": ranks, "last_bits": last_bits(pl_module.device)}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep them until training starts."""
        self._loaded = checkpoint[KEY]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the states back; in a new run, let processes that train together draw different noise."""
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            if trainer.world_size > 1:
                torch.manual_seed(torch.initial_seed() + trainer.global_rank)
            return
        if len(loaded["ranks"]) != trainer.world_size:  # a stream of its own for each, that nobody has drawn from yet
            place = [torch.initial_seed(), trainer.global_step, trainer.world_size, trainer.global_rank]
            torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
            return
        restore(loaded["ranks"][trainer.global_rank], pl_module.device)
        now = last_bits(pl_module.device)
        for name, was in loaded["last_bits"].items():
            if now[name] != was and trainer.is_global_zero:
                log.warning("the run goes on with %s %s instead of %s: its last bits will differ", name, now[name], was)


def last_bits(device: torch.device) -> dict[str, Any]:
    """What sums are rounded by: the same program gives other last bits where one of them differs."""
    return {"device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
