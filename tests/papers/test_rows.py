"""The rows of papers: each composes, and says what was published, where, and under which protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from nelbo.commands.help import with_endings
from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.config.build import build
from nelbo.papers.records import measures_of
from nelbo.papers.rows import FULL, ROWS, SHORT, UNITS, Row
from nelbo.running.settings import resolve
from tests.helpers.downloads import needs
from tests.helpers.forks import ROOT, forked

CONF = ROOT / "conf"
NAMES = list(ROWS)
STAGES = 8
IMAGES = {"binarized_mnist": 60_000, "omniglot": 24_345, "cifar10": 50_000}


@pytest.fixture(scope="module", autouse=True)
def hydra_configs() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(config_dir=str(CONF), **hydra_options()):
        yield


def plain(row: Row) -> dict[str, Any]:
    return resolve(compose("config", overrides=list(row.training)))


def model_and_data(config: dict[str, Any]) -> dict[str, Any]:
    """What a short form must have in common with its row: everything but the schedule."""
    data = {key: value for key, value in config["data"].items() if key != "batch_size"}
    objective = {key: value for key, value in config["objective"].items() if key != "beta"}
    return {"model": config["model"], "data": data, "objective": objective, "seed": config["seed"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_an_experiment_of_its_name_and_says_what_was_published_and_where(name: str) -> None:
    row = ROWS[name]
    assert (CONF / "experiment" / f"{name}.yaml").is_file() and row.training == (f"experiment={name}",)
    assert row.published > 0 and row.measure in UNITS and row.place
    assert any(word.isdigit() and len(word.rstrip(",")) == 4 for word in row.citation.replace(",", " ").split())
    assert bool(row.num_samples) == (row.measure == "nll") == ("nll" in measures_of(row))
    assert "all test images" in row.protocol


@pytest.mark.parametrize("name", NAMES)
def test_the_data_of_a_row_are_those_of_its_protocol(name: str) -> None:
    row, config = ROWS[name], plain(ROWS[name])
    expected = ("cifar10", "raw") if "CIFAR" in row.data else ("omniglot" if "Omni" in row.data else "binarized_mnist",)
    assert (config["data"]["name"], config["data"]["protocol"])[: len(expected)] == expected
    assert ("dynamic" in row.data) == (config["data"]["protocol"] == "dynamic")
    assert config["trainer"]["max_epochs"] is None  # the budget's epochs count


@pytest.mark.parametrize("name", [name for name in NAMES if ROWS[name].is_short])
def test_a_short_form_differs_in_the_schedule_only(name: str) -> None:
    short, full = plain(ROWS[name]), plain(ROWS[name.removesuffix(SHORT)])
    assert model_and_data(short) == model_and_data(full)
    assert short["budget"]["epochs"] < full["budget"]["epochs"]
    assert "Different" in (text := (CONF / "experiment" / f"{name}.yaml").read_text()) or "different from" in text


def test_every_row_that_a_cpu_can_train_has_a_short_form() -> None:
    assert {row.name for row in FULL if f"{row.name}{SHORT}" not in ROWS} == {"vdvae_cifar10"}


def test_the_stages_of_burda_are_those_of_the_paper() -> None:
    """A rate of 1e-3 * 10^(-i/7) for 3^i epochs, i = 0 ... 7."""
    config = plain(ROWS["burda2016_vae"])
    epochs, options = config["budget"]["epochs"], config["scheduler"]
    assert epochs == sum(3**stage for stage in range(STAGES))
    ends = [sum(3**stage for stage in range(last + 1)) for last in range(STAGES - 1)]
    steps = epochs * IMAGES["binarized_mnist"] // config["data"]["batch_size"]
    assert [round(share * steps) for share in options["milestones"]] == [end * steps // epochs for end in ends]
    for stage in range(STAGES):
        assert config["optimizer"]["lr"] * options["gamma"] ** stage == pytest.approx(1e-3 * 10 ** (-stage / 7))


def test_warm_ups_are_as_long_as_the_files_say() -> None:
    for name, epochs in (("vampprior2018_vae", 100), ("vampprior2018_vamp_short", 20), ("ladder2016_short", 18)):
        config = plain(ROWS[name])
        images = IMAGES[config["data"]["name"]] - config["data"]["validation_size"]
        steps = config["objective"]["beta"]["linear"]["steps"]
        assert steps == epochs * -(-images // config["data"]["batch_size"]), name


def test_the_very_deep_model_has_45_levels() -> None:
    with torch.device("meta"):
        model = build(plain(ROWS["vdvae_cifar10"])["model"], "model")
        trace = model.trace(torch.zeros(2, 3, 32, 32))
    assert len(model.events) == len(trace.latents) == 45 and model.events[-1] == (16, 32, 32)
    assert 36 < sum(parameter.numel() for parameter in model.parameters()) / 1e6 < 44


@needs("mnist")
@pytest.mark.parametrize("name", ["burda2016_iwae5", "vampprior2018_vamp", "ladder2016_short"])
def test_a_row_trains(name: str, tmp_path: Path) -> None:
    short = (
        "trainer=smoke",
        "data.batch_size=20",
        "callbacks.pictures=null",
        "logger=none",
        f"hydra.run.dir={tmp_path}",
    )
    done = forked("train.py", *ROWS[name].training, *short, "threads=1")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["steps"] == 5 and metrics["data"] == "binarized_mnist" and math.isfinite(metrics["test/nelbo"])


def test_help_names_a_row_and_its_short_form_at_once() -> None:
    assert with_endings(["a", "a_short", "b", "c_short"]) == ["a[_short]", "b", "c_short"]
