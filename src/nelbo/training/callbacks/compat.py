"""Private and undocumented interfaces of torch's writer of TensorBoard files.

`tests/training/test_compat.py` has one test per interface, which names the package, its installed version and the
interface when an upgrade has changed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import image


def add_hparams(writer: SummaryWriter, hyperparameters: Mapping[str, Any], name: str) -> None:
    """Fill TensorBoard's hparams tab from the writer's own directory.

    Which hyperparameters and metrics there are is left to TensorBoard, which then finds those of all runs that it
    shows, and puts the hyperparameters that differ between them first.

    Wraps torch's `SummaryWriter._get_file_writer`; the public `SummaryWriter.add_hparams` creates another directory.

    Args:
        writer: the writer of the run.
        hyperparameters: numbers, booleans and texts by name.
        name: the name of the run in the tab. Runs of one name are taken for repetitions, and averaged.
    """
    writer._get_file_writer().add_summary(hparams_pb(dict(hyperparameters), trial_id=name))


def add_image(writer: SummaryWriter, tag: str, picture: Tensor, step: int, text: str) -> None:
    """Write a picture (C, height, width) with a description; `SummaryWriter.add_image` has none.

    Wraps torch's `SummaryWriter._get_file_writer`.
    """
    summary = image(tag, picture, dataformats="CHW")
    metadata = summary.value[0].metadata
    metadata.summary_description, metadata.plugin_data.plugin_name = text, "images"
    writer._get_file_writer().add_summary(summary, step)
