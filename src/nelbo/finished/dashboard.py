"""An evaluation in the run's own TensorBoard and folder of pictures."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nelbo.evaluation.measure import Findings
from nelbo.views.grids import save_png

BOARD, PICTURES = "tensorboard", "pictures"
TAG = "evaluation"
"""Above all tags: those of training, `test/nelbo` among them, are what the run itself measured (the hparams tab)."""
SUFFIX = ".evaluation"
"""Of the names of its files, which tells them from the logs of training: those are cut when a run goes on."""


def show(folder: Path, split: str, findings: Findings, step: int) -> list[Path]:
    """Results and pictures as evaluation/SPLIT/NAME, at the step of the checkpoint; where the pictures lie.

    Settings and numbers of images are no scalars: evaluation.json has them.
    A folder without TensorBoard's (a checkpoint alone, logger=none) gets the pictures only.
    """
    if (folder / BOARD).is_dir():
        writer = SummaryWriter(folder / BOARD, filename_suffix=SUFFIX)
        for key, value in findings.results.items():
            writer.add_scalar(f"{TAG}/{split}/{key}", value, step)
        for name, picture in findings.pictures.items():
            writer.add_image(f"{TAG}/{split}/{name}", picture, step)
        writer.close()
    return [save_png(picture, folder / PICTURES / f"{split}_{name}.png") for name, picture in findings.pictures.items()]
