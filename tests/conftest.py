"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.helpers.downloads import skip_without
from tests.helpers.forks import Done, Train, forked
from tests.helpers.server import running_server


def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_without(item)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Address of a local server that misbehaves on purpose."""
    with running_server() as address:
        yield address


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of an empty cache of data sets."""
    monkeypatch.setenv("NELBO_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Function `train(*overrides)` that runs train.py in a fork, into tmp_path/run."""

    def run(*overrides: str, **environment: str) -> Done:
        return forked("train.py", *overrides, f"hydra.run.dir={tmp_path / 'run'}", **environment)

    return run


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run of one epoch on the digits, with two latents so that every picture is drawn."""
    folder = tmp_path_factory.mktemp("smoke") / "run"
    done = forked(
        "train.py", "model=mlp_vae", "data=digits", "model.latent_dim=2", "trainer=smoke", f"hydra.run.dir={folder}"
    )
    assert done.returncode == 0, done.stderr
    return folder
