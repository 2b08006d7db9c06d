"""A finished run whose checkpoints tests damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.interrupted import run

SMALL_NETS = ("model.encoder.hidden=[16]", "model.decoder.hidden=[16]", "model.latent_dim=4")
"""Networks so small that a large part of a checkpoint is not weights."""


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    done = run(folder, [*SMALL_NETS, "trainer.max_epochs=1"])
    assert done.returncode == 0, done.stderr
    return folder
