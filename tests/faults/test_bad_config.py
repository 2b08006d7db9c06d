"""Invalid configs: one line with the key, the value and a hint, exit status 2, no traceback."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.config.checks import CHECKS, check
from nelbo.config.keys import select
from nelbo.config.trainer_checks import LOGGER_OPTIONS
from nelbo.data.fetch import cache_directory
from nelbo.data.sets.mnist import MNIST_FILES
from nelbo.errors import ConfigError
from tests.helpers.bad_configs import CASES
from tests.helpers.downloads import needs
from tests.helpers.forks import ROOT, Done, Train, python, train_all


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """The finished run of each of `CASES`."""
    folder = tmp_path_factory.mktemp("bad")
    shared = ["model=mlp_vae", "data=digits", "trainer=smoke", f"hydra.run.dir={folder / 'run'}"]
    ended = train_all({str(index): [*shared, *case.split()] for index, case in enumerate(CASES)}, folder)
    return dict(zip(CASES, ended.values(), strict=True))


@pytest.mark.parametrize("override", CASES)
def test_bad_overrides(done: dict[str, Done], override: str) -> None:
    run = done[override]
    assert run.returncode == 2, run.stderr
    assert run.stderr.startswith(f"error: {CASES[override]}"), run.stderr
    assert len(run.stderr.splitlines()) == 1 and run.stdout == ""


def test_bad_config_every_check_is_for_an_existing_key() -> None:
    """The check of a renamed key would never be called."""
    register_resolvers()
    with initialize_config_dir(config_dir=str(ROOT / "conf"), **hydra_options()):
        plain = OmegaConf.to_container(compose("config", overrides=["optimizer=adamw"]), resolve=True)
    assert isinstance(plain, dict)
    check(plain)
    budgets = [OmegaConf.load(file) for file in (ROOT / "conf" / "budget").glob("*.yaml")]
    data = [OmegaConf.load(file) for file in (ROOT / "conf" / "data").glob("*.yaml")]
    options = {
        "budget": {key for budget in budgets for key in budget},
        "trainer": inspect.signature(pl.Trainer).parameters,
        "data": {key for content in data for key in content.get("data", content)},
        "optimizer": {
            **inspect.signature(torch.optim.SGD).parameters,
            **inspect.signature(torch.optim.Adam).parameters,
        },
    }
    loggers = (pl.loggers.TensorBoardLogger, pl.loggers.CSVLogger, pl.loggers.WandbLogger, pl.loggers.MLFlowLogger)
    assert LOGGER_OPTIONS.keys() <= {name for kind in loggers for name in inspect.signature(kind).parameters}
    for key in CHECKS:
        parent, _, name = key.rpartition(".")
        assert name in (select(plain, parent) if parent else plain) or name in options[parent], key


def test_bad_config_trees_from_files() -> None:
    for plain in ({"a": {"_target_": "os.system"}}, {"a": {7: 1}}, {"a": object()}, {"allow_targets": "x"}):
        with pytest.raises(ConfigError):
            check(plain)


@pytest.mark.parametrize("override", ["model.latent_dim=0", "posterior=deterministic"])
def test_a_single_run_gives_the_same_error(train: Train, done: dict[str, Done], override: str) -> None:
    alone = train("model=mlp_vae", "data=digits", "trainer=smoke", override)
    assert (alone.returncode, alone.stdout, alone.stderr) == (2, "", done[override].stderr)


def test_a_missing_gpu(train: Train) -> None:
    done = train("model=mlp_vae", "data=digits", "trainer=gpu", CUDA_VISIBLE_DEVICES="")
    message = "error: trainer.accelerator=gpu: is not available on this machine"
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(message), done.stderr


def test_a_bad_job_of_a_sweep_does_not_stop_the_others(tmp_path: Path) -> None:
    sweep = ["-m", "model.latent_dim=2,0,3", "trainer=smoke", "model=mlp_vae", "data=digits", "callbacks=none"]
    done = python("train.py", *sweep, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 2 and "error: model.latent_dim=0" in done.stderr and "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("*/metrics.json"))) == 2


def test_no_network_and_no_cache(train: Train, tmp_path: Path) -> None:
    nowhere = {"NELBO_DATA": str(tmp_path / "cache"), "PATH": "", "https_proxy": "http://127.0.0.1:9"}
    done = train("model=mlp_vae", "data=mnist", "trainer=smoke", **nowhere)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "train-images-idx3-ubyte: not in the cache and cannot be fetched; tried https://" in done.stderr
    assert "by hand" in done.stderr


@needs("mnist")
def test_a_corrupt_data_file(train: Train, tmp_path: Path) -> None:
    from nelbo.data import mnist

    mnist()
    shutil.copytree(cache_directory() / "mnist", tmp_path / "cache" / "mnist")
    damaged = tmp_path / "cache" / "mnist" / MNIST_FILES[0].name
    content = bytearray(damaged.read_bytes())
    content[5000] ^= 1
    damaged.write_bytes(content)
    done = train("model=mlp_vae", "data=mnist", "trainer=smoke", NELBO_DATA=str(tmp_path / "cache"))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"error: {damaged}: corrupt data file, its sha256 is" in done.stderr
