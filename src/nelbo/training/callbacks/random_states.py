"""Random states in checkpoints, so that a run that goes on is the run that was not interrupted, bit for bit."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

log = logging.getLogger(__name__)
KEY = "random_states"


class RandomStates(pl.Callback):
    """Saves the random states of torch, numpy and Python of every process, and what the last bits depend on besides.

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
        if loaded is None or len(loaded["ranks"]) != trainer.world_size:
            if trainer.world_size > 1:
                torch.manual_seed(torch.initial_seed() + trainer.global_rank)
            return
        restore(loaded["ranks"][trainer.global_rank], pl_module.device)
        now = last_bits(pl_module.device)
        for name, was in loaded["last_bits"].items():
            if now[name] != was and trainer.is_global_zero:
                log.warning("the run goes on with %s %s instead of %s: its last bits will differ", name, now[name], was)


def states(device: torch.device) -> dict[str, Any]:
    """The random states of this process, as plain containers and tensors."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [kind, torch.tensor(keys, dtype=torch.int64), position, has_gauss, cached],
        "python": [version, torch.tensor(numbers), gauss],
    }


def restore(saved: dict[str, Any], device: torch.device) -> None:
    """Put random states back."""
    torch.set_rng_state(saved["torch"])
    cuda: Tensor | None = saved["cuda"]
    if device.type == "cuda" and cuda is not None:
        torch.cuda.set_rng_state(cuda, device)
    kind, keys, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, numbers, gauss = saved["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))


def last_bits(device: torch.device) -> dict[str, Any]:
    """What sums are rounded by: the same program gives other last bits where one of them differs."""
    return {"device": device.type, "threads": torch.get_num_threads(), "torch": str(torch.__version__)}
