"""Evaluations and pictures of one setting of a model that was trained for many; one run, trained by train.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import nelbo
from nelbo.finished.run import FinishedRun
from nelbo.models import VAE
from nelbo.trace import LOG_BETA
from tests.helpers.evaluations import SCRIPT, train_smoke
from tests.helpers.forks import Done, train_all

SMALL = ["model=mlp_vae", "model.encoder.hidden=[16,16]", "model.decoder.hidden=[16,16]", "threads=1"]
TRAINING = [*SMALL, "data=digits", "data.protocol=threshold", "likelihood=bernoulli"]
ELBO = ["metrics=[elbo]", "limit=50"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("at")
    runs = {"run": [*TRAINING, "rates=many", "nesting=geometric", "model.latent_dim=4", "trainer.max_steps=20"]}
    train_smoke(home, {**runs, "plain": TRAINING})
    return home / "run"


@pytest.fixture(scope="module")
def done(run: Path) -> dict[str, Done]:
    calls = {
        "whole": ELBO,
        "small": ["metrics=[elbo]", "at.beta=0.05", "at.latent_dim=2"],
        "large": [*ELBO, "at.beta=8"],
        "again": ["metrics=[active_units]", "limit=50", "at.beta=0.05", "at.latent_dim=2"],
        "beyond": [*ELBO, "at.beta=50"],
        "many": [*ELBO, "at.latent_dim=5"],
        "unknown": [*ELBO, "at.label=3"],
        "inner": [*ELBO, "at.log_beta=1"],
        "number": [*ELBO, "at=3"],
    }
    logs = run.parent / "evaluations"
    logs.mkdir()
    of_run = {name: [f"run={run}", *call] for name, call in calls.items()}
    return train_all({**of_run, "plain": [f"run={run.parent / 'plain'}", *ELBO, "at.beta=2"]}, logs, SCRIPT)


def results(run: Path) -> list[dict[str, object]]:
    return [json.loads(file.read_text()) for file in run.glob("evaluation*.json")]


def test_results_of_several_settings_are_kept_apart(run: Path, done: dict[str, Done]) -> None:
    assert all(done[name].returncode == 0 for name in ("whole", "small", "large", "again")), done
    by_setting = {json.dumps(content.get("at")): content for content in results(run)}
    assert by_setting.keys() == {"null", '{"beta": 0.05, "latent_dim": 2}', '{"beta": 8}'}
    small = by_setting['{"beta": 0.05, "latent_dim": 2}']
    assert "test/active_units" in small and "test/nelbo" in small  # of two calls, with another setting between them
    values = {content["test/nelbo"] for content in by_setting.values()}
    assert len(values) == 3


def test_a_setting_has_its_own_tags_and_title(run: Path, done: dict[str, Done]) -> None:
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    tags = board.Tags()["scalars"]
    assert {"evaluation/test/nelbo", "evaluation/test beta=8/nelbo"} <= set(tags)
    assert "evaluation/test beta=0.05,latent_dim=2/nelbo" in tags
    assert "at beta=8" in " ".join(done["large"].stdout.split())


def test_what_is_evaluated_is_the_model_at_the_setting(run: Path, done: dict[str, Done]) -> None:
    finished = FinishedRun.open(run, setting={"beta": 0.05, "latent_dim": 2})
    subject = finished.subject(split="test", device="cpu")
    with torch.no_grad():
        trace = nelbo.load(run).at(beta=0.05, latent_dim=2).trace(subject.images[torch.arange(len(subject.images))], 1)
    (small,) = [content for content in results(run) if content.get("at") == {"beta": 0.05, "latent_dim": 2}]
    assert small["test/rate"] == pytest.approx(float(trace.kl.mean()), rel=1e-5)


def test_settings_that_cannot_be_are_refused_in_one_line(done: dict[str, Done]) -> None:
    expected = {
        "beyond": "error: at.beta=50: must be from 0.01 to 10, for which the model was trained",
        "many": "error: at.latent_dim=5: must be",
        "unknown": "error: at.label=3: the model was trained for many values of beta and latent_dim alone (",
        "inner": "error: at.log_beta=1: the model was trained for many values of beta and latent_dim alone (",
        "number": "error: at=3: needs names: at.beta=0.5, at.latent_dim=8",
        "plain": "error: at.beta=2: this model takes none (",
    }
    for name, line in expected.items():
        assert done[name].returncode == 2 and done[name].stderr.strip().startswith(line), done[name]
        assert len(done[name].stderr.strip().splitlines()) == 1


def test_a_picture_of_a_setting_has_a_name_of_its_own(run: Path) -> None:
    (run.parent / "pictures").mkdir()
    done = train_all(
        {"samples": ["samples", f"run={run}", "at.latent_dim=2"]}, run.parent / "pictures", "scripts/draw.py"
    )
    assert done["samples"].returncode == 0, done
    assert (run / "pictures" / "samples-latent_dim=2.png").is_file()


def test_training_draws_settings_and_validates_the_ordinary_model(run: Path) -> None:
    model = nelbo.load(run)
    assert isinstance(model, VAE) and model.surface is not None and model.surface.rates is not None
    assert model.surface.rates.below_largest.std() > 0  # the gates have learned
    assert model.infer(torch.zeros(2, 1, 8, 8)).context[LOG_BETA].tolist() == [0, 0]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/active_units"] <= 4
