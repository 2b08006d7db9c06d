"""The result of training for metrics.json: its length, why it ended, and which checkpoint was tested."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from nelbo.training.callbacks.ending import Ending
from nelbo.training.length import Length

log = logging.getLogger(__name__)


def outcome(trainer: pl.Trainer, ending: Ending, length: Length, best: tuple[int, int], step: int) -> dict[str, Any]:
    """Return how training ended and which checkpoint is tested, and log it.

    Args:
        trainer: the Trainer, after training.
        ending: the record of where training ended.
        length: how long training was to be.
        best: the position of best.ckpt: completed epochs, and batches of the next one.
        step: the number of optimiser steps of best.ckpt.

    Returns:
        `epochs` and `steps` trained, `ended_by`, and `checkpoint_epoch` and `checkpoint_step` of the checkpoint that is
        tested. Epochs are whole numbers, or fractions if the last one was not completed.
    """
    result = {
        "epochs": _epochs(ending.epochs, ending.batches, length),
        "steps": trainer.global_step,
        "ended_by": ending.reason(trainer),
        "checkpoint_epoch": _epochs(*best, length),
        "checkpoint_step": step,
    }
    text = "training ended after %(epochs)s epochs, %(steps)d steps, by %(ended_by)s; the best checkpoint, of epoch "
    log.info(text + "%(checkpoint_epoch)s, step %(checkpoint_step)d, is tested", result)
    return result


def _epochs(whole: int, batches: int, length: Length) -> int | float:
    """Return the number of epochs trained, rounded to four decimal places."""
    share = round(batches / length.batches, 4)
    return whole + int(share) if share in (0, 1) else whole + share
