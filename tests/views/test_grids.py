"""Grids of images as tensors."""

from __future__ import annotations

import torch

from nelbo.views.grids import grid, joined


def test_pictures_joined_keep_a_wider_gap() -> None:
    black = grid(torch.zeros(1, 1, 1, 56, 56))
    assert joined([black, black], dim=2).shape == (1, 60, 128) and joined([black, black], dim=1).shape == (1, 128, 60)
