"""An evaluation in the run's own TensorBoard and folder of pictures."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nelbo.evaluation.measure import Findings
from nelbo.pictures.grids import save_png

BOARD, PICTURES = "tensorboard", "pictures"
SUFFIX = ".evaluation"
"""Of the names of its files, which tells them from the logs of training: those are cut when a run goes on."""


def show(folder: Path, split: str, findings: Findings, step: int) -> list[Path]:
    """Numbers and pictures at the step of the checkpoint, beside those of the training; where the pictures lie.

    A folder without TensorBoard's (a checkpoint alone, logger=none) gets the pictures only.
    """
    if (folder / BOARD).is_dir():
        writer = SummaryWriter(folder / BOARD, filename_suffix=SUFFIX)
        for key, value in findings.values.items():
            if not isinstance(value, str):
                writer.add_scalar(f"{split}/{key}", value, step)
        for name, picture in findings.pictures.items():
            writer.add_image(f"{split}/{name}", picture, step)
        writer.close()
    return [save_png(picture, folder / PICTURES / f"{split}_{name}.png") for name, picture in findings.pictures.items()]
