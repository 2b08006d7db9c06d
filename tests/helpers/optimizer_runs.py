"""Short runs that record the learning rates of an optimiser and its scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from nelbo.training.callbacks import RandomStates
from tests.helpers.diverging import Training

SMALL = ("data.batch_size=512", "trainer.max_epochs=4", "optimizer.lr=0.01", "budget.validate_every_n_epochs=1")
"""Three steps per epoch."""

WITHIN, AT_THE_END = (1, 2), (2, 0)
"""Positions (epochs, batches) from which runs resume: within the second epoch, after five steps, and at its end."""


class Watch(pl.callbacks.Checkpoint):
    """Records the learning rate of each step, and writes checkpoints within the second epoch and at its end.

    Args:
        folder: where checkpoints are written.
        step: the step after which the first checkpoint is written.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step
        self.rates: list[float] = []
        self.betas: list[Any] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        (group,) = trainer.optimizers[0].param_groups
        self.rates.append(group["lr"])
        self.betas.append(group.get("betas", group.get("momentum")))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.folder / f"{WITHIN}.ckpt")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            trainer.save_checkpoint(self.folder / f"{AT_THE_END}.ckpt")


class Run:
    """A run of twelve steps, or the rest of one that resumes from a checkpoint.

    Args:
        folder: directory of the run.
        overrides: added to `SMALL`.
        callbacks: called before the recorder of learning rates.
        step: the step after which the first checkpoint is written.
        resume_from: directory of the run to resume from; None starts a new run.
        at: the position of the checkpoint to resume from.
    """

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        callbacks: tuple[pl.Callback, ...] = (),
        step: int = 5,
        resume_from: Path | None = None,
        at: tuple[int, int] = (0, 0),
    ) -> None:
        self.folder, self.watch = folder, Watch(folder, step)
        self.training = Training(folder, *SMALL, *overrides, callbacks=(*callbacks, self.watch, RandomStates()))
        self.training.fit(resume_from / f"{at}.ckpt" if resume_from else None, at)

    def end(self) -> dict[str, Any]:
        """Return the final weights and the state of the optimiser."""
        (optimizer,) = self.training.trainer.optimizers
        return {"model": self.training.module.state_dict(), "optimizer": optimizer.state_dict()["state"]}
