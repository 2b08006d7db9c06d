"""What came of training, for metrics.json: how long it was, why it ended, and which of its states was tested."""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl

from nelbo.training.callbacks.ending import Ending
from nelbo.training.length import Length

log = logging.getLogger(__name__)


def outcome(trainer: pl.Trainer, ending: Ending, length: Length, best: tuple[int, int], step: int) -> dict[str, Any]:
    """How training ended, and which checkpoint its numbers are of; logged too.

    Args:
        trainer: after training.
        ending: of its checkpoints.
        length: that it was to have.
        best: of best.ckpt, the epochs that were over and the batches of the next one.
        step: its optimiser steps.

    Returns:
        `epochs` and `steps` that were trained, `ended_by`, `checkpoint_epoch` and `checkpoint_step` of what is tested.
        Epochs are whole numbers, or fractions where one was cut short.
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
    """Epochs that were trained, to four digits behind the point."""
    share = round(batches / length.batches, 4)
    return whole + int(share) if share in (0, 1) else whole + share
