"""An evaluation in the run's own TensorBoard and folder of pictures."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from nelbo.evaluation.measure import Findings

BOARD, PICTURES = "tensorboard", "pictures"


def show(folder: Path, split: str, findings: Findings, step: int) -> list[Path]:
    """Numbers and pictures at the step of the checkpoint, beside those of the training; where the pictures lie.

    A folder without TensorBoard's (a checkpoint alone, logger=none) gets the pictures only.
    """
    if (folder / BOARD).is_dir():
        writer = SummaryWriter(folder / BOARD)
        for key, value in findings.values.items():
            if not isinstance(value, str):
                writer.add_scalar(f"{split}/{key}", value, step)
        for name, picture in findings.pictures.items():
            writer.add_image(f"{split}/{name}", picture, step)
        writer.close()
    return [save(picture, folder / PICTURES / f"{split}_{name}.png") for name, picture in findings.pictures.items()]


def save(picture: Tensor, file: Path) -> Path:
    """A picture (C, height, width) in [0, 1] as a PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(file)
    return file
