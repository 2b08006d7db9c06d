"""scripts/contrast.py, run on two trained models."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.helpers.downloads import needs
from tests.helpers.forks import forked, python

SHARED = ("model.latent_dim=2", "data=mnist", "trainer=smoke", "callbacks=none", "logger=none")


@needs("mnist")
@pytest.mark.slow
def test_the_contrast_is_drawn_from_two_runs(tmp_path: Path) -> None:
    for model in ("conv_vae", "autoencoder"):
        done = forked("train.py", f"model={model}", *SHARED, f"hydra.run.dir={tmp_path / model}")
        assert done.returncode == 0, done.stderr
    runs = [f"vae={tmp_path / 'conv_vae'}", f"autoencoder={tmp_path / 'autoencoder'}"]
    done = python("scripts/contrast.py", *runs, f"out={tmp_path / 'picture.png'}")
    assert done.returncode == 0 and not done.stderr, done.stderr
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 800


def test_bad_arguments_are_one_line(tmp_path: Path) -> None:
    for arguments in ([], [f"vae={tmp_path}", f"autoencoder={tmp_path}", "out=x.png"], ["vea=1"]):
        done = forked("scripts/contrast.py", *arguments)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
