"""The results of an evaluation in the run's TensorBoard logs and folder of pictures."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from nelbo.evaluation.measure import Findings
from nelbo.views.grids import save_png

BOARD, PICTURES = "tensorboard", "pictures"
TAG = "evaluation"
"""The first part of every tag. Tags without it, such as `test/nelbo`, are what the run itself measured."""

SUFFIX = ".evaluation"
"""The suffix of the event files, which distinguishes them from those of training, which are cut when a run resumes."""


def show(folder: Path, split: str, findings: Findings, step: int) -> list[Path]:
    """Write results and pictures as evaluation/SPLIT/NAME, SPLIT with the setting of a model that has many.

    Settings and numbers of images are not written; evaluation.json has them. A folder without TensorBoard logs, as of
    a checkpoint alone or of a run with logger=none, gets the picture files only.

    Args:
        folder: the folder of the results.
        split: the split that was evaluated, and the setting.
        findings: the results of a measure.
        step: the step of the checkpoint.

    Returns:
        The files of the pictures.
    """
    if (folder / BOARD).is_dir():
        writer = SummaryWriter(folder / BOARD, filename_suffix=SUFFIX)
        for key, value in findings.results.items():
            writer.add_scalar(f"{TAG}/{split}/{key}", value, step)
        for name, picture in findings.pictures.items():
            writer.add_image(f"{TAG}/{split}/{name}", picture, step)
        writer.close()
    return [save_png(picture, folder / PICTURES / f"{split}_{name}.png") for name, picture in findings.pictures.items()]
