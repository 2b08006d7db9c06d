"""Scenes to draw."""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.models import VAE
from nelbo.pictures import Scene
from tests.helpers.subjects import TensorSplit

COUNT = 30


def make_scene(model: VAE, images: Tensor | None = None, labels: Tensor | None = None) -> Scene:
    """Return a scene of a model and images; with `images` None, of an unavailable data set."""

    def open_images() -> tuple[TensorSplit, tuple[str, ...]]:
        assert images is not None, "asked for images"
        return TensorSplit(images, torch.arange(len(images)) % 3 if labels is None else labels), ("a", "b", "c")

    return Scene("tiny", model.eval(), torch.device("cpu"), "test", open_images, batch_size=7)
