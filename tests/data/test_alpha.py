"""Folders of pictures whose transparent pixels are unknown: `data.alpha=mask`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nelbo.data.sets.folder import image_folder
from nelbo.data.sets.pictures import to_picture
from nelbo.errors import ConfigError, DataError
from tests.helpers.forks import forked

RANDOM = np.random.default_rng(0)
KNOWN = RANDOM.random((12, 10, 8)) < 0.7
GREY = RANDOM.integers(0, 256, (12, 10, 8), dtype=np.uint8)
OPTIONS: dict[str, Any] = {"image_size": [10, 8], "channels": 1, "max_megapixels": 1, "test_size": 4, "seed": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Grey pictures with an alpha channel; the first has none. What transparent pixels hold does not matter."""
    monkeypatch.setenv("NELBO_DATA", str(tmp_path / "cache"))
    home = tmp_path / "pictures"
    home.mkdir()
    for index, (grey, known) in enumerate(zip(GREY, KNOWN, strict=True)):
        if index:
            Image.fromarray(np.stack([grey, 255 * known.astype(np.uint8)], axis=-1), "LA").save(
                home / f"{index:02}.png"
            )
        else:
            Image.fromarray(grey).save(home / "00.png")
    return home


def test_transparent_pixels_are_unknown(folder: Path) -> None:
    arrays = image_folder(str(folder), alpha="mask", **OPTIONS)
    assert arrays.shape == (1, 10, 8)
    known = KNOWN.copy()
    known[0] = True
    for examples in (arrays.train, arrays.test):
        batch = examples.__getitems__(torch.arange(len(examples)))
        rows = batch.positions.numpy()
        assert batch.columns["observed"].numpy().tolist() == known[rows][:, None].tolist()
        assert np.array_equal(batch.images[:, 0].numpy(), np.where(known[rows], GREY[rows], 0))
    white = image_folder(str(folder), alpha="white", **OPTIONS)
    assert not white.train.columns and white.sha256() != arrays.sha256()
    first = white.train.__getitems__(torch.arange(len(white.train)))
    assert (first.images[:, 0].numpy()[~known[first.positions.numpy()]] == 255).all()


def test_hidden_colours_do_not_show_where_pictures_are_resized() -> None:
    """The right half is transparent and red: no red is left in the grey left half, and the mask has the halves."""
    picture = np.zeros((16, 32, 4), np.uint8)
    picture[:, :16], picture[:, 16:] = (90, 90, 90, 255), (255, 0, 0, 0)
    pixels = to_picture(Image.fromarray(picture, "RGBA"), (8, 16), 3, alpha="mask").pixels
    assert pixels.shape == (4, 8, 16) and (pixels[3, :, :8] == 255).all() and not pixels[3, :, 8:].any()
    assert (np.abs(pixels[:3, :, :8].astype(int) - 90) <= 1).all() and not pixels[:3, :, 8:].any()


def test_sixteen_bits_have_masks_of_ones_and_what_cannot_be_used_is_refused(folder: Path, tmp_path: Path) -> None:
    stored = Image.fromarray(GREY[0].astype(np.uint16) << 8)
    pixels = to_picture(stored, (10, 8), 1, None, alpha="mask").pixels
    assert pixels.dtype == np.float32 and pixels.shape == (2, 10, 8) and (pixels[1] == 1).all()
    with pytest.raises(ConfigError, match="alpha=black: must be one of white, mask"):
        image_folder(str(folder), alpha="black", **OPTIONS)
    opaque = tmp_path / "opaque"
    opaque.mkdir()
    for index in range(6):
        Image.fromarray(GREY[index]).save(opaque / f"{index}.png")
    with pytest.raises(DataError, match="no picture has transparent pixels, which data.alpha=mask is for"):
        image_folder(str(opaque), alpha="mask", **OPTIONS)


def test_a_run_with_masks_of_a_folder(folder: Path, tmp_path: Path) -> None:
    sizes = ("data.image_size=[10,8]", "data.channels=1", "data.test_size=4", "data.validation_size=2")
    run: Callable[..., Any] = lambda *more: forked(  # noqa: E731
        *("train.py", "model=mlp_vae", "data=image_folder", f"data.root={folder}", "data.levels=256", *sizes),
        *("trainer=smoke", "callbacks=none", "logger=none", *more),
    )
    done = run("data.alpha=mask", "inputs=masked", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    refused = run("data.alpha=mask", f"hydra.run.dir={tmp_path / 'other'}")
    assert refused.returncode == 2 and "inputs=masked" in refused.stderr, refused.stderr
