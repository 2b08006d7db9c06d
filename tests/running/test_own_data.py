"""Runs on Datasets and DataModules of a user's own, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nelbo.finished.data_location import relocated
from tests.helpers.errors_of_commands import TROUBLE, metrics_of
from tests.helpers.forks import Train, forked
from tests.helpers.interrupted import assert_same_run
from tests.helpers.sweeps import sweep

PACKAGE = "tests.helpers.own_data"
QUICK = ("model=tanh_mlp_vae", "callbacks=none", "logger=none", "trainer.check_val_every_n_epoch=1")
DATASET = ("data=dataset", f"data.source._target_={PACKAGE}.Bars", "data.batch_size=20", "allow_targets=[tests.]")
NOISY = (*DATASET, "+data.source.noise=0.1", "data.test_source={train:false,count:50}")
MODULE = ("data=datamodule", f"data.module._target_={PACKAGE}.BarModule", "allow_targets=[tests.]")
KINDS = {"dataset": NOISY, "module": (*MODULE, "+data.module.noise=0.1")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_trained_evaluated_and_drawn(train: Train, tmp_path: Path, kind: str) -> None:
    done = train("model=mlp_vae", "model.latent_dim=2", *KINDS[kind], "trainer=smoke", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert not [text for text in TROUBLE if text in (done.stdout + done.stderr).lower()], done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith(f"{PACKAGE}.Bar")]
    assert len(notes) == (2 if kind == "dataset" else 3) and "provenance: results have a SHA-256 of 64" in notes[-1]
    metrics = metrics_of(tmp_path / "run")
    assert metrics["data"] == f"{PACKAGE}.{'Bars' if kind == 'dataset' else 'BarModule'}"
    assert (metrics["train_images"], metrics["test_images"]) == ((180, 50) if kind == "dataset" else (160, 50))
    assert metrics["data_sha256"].startswith("sample:")
    assert (tmp_path / "run" / "pictures" / "reconstructions.png").exists()
    run = f"run={tmp_path / 'run'}"
    refused = forked("scripts/evaluate.py", run, "metrics=[elbo]")
    assert refused.returncode == 2 and "is not among the packages" in refused.stderr
    evaluate = ("scripts/evaluate.py", run, "metrics=[elbo,probe]", "allow_targets=[tests.]")
    evaluated = forked(*evaluate)
    assert evaluated.returncode == 0, evaluated.stderr
    values = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert abs(values["test/nelbo"] - metrics["test/nelbo"]) < 1 and values["test/probe_chance"] >= 0.5
    drawn = forked("scripts/draw.py", "reconstructions", run, "allow_targets=[tests.]")
    assert drawn.returncode == 0, drawn.stderr
    moved = "data.source.count=100" if kind == "dataset" else "data.module.batch_size=10"
    other = forked(*evaluate, moved)
    if kind == "dataset":
        assert other.returncode == 2 and "is not the data that it was trained on" in other.stderr, other.stderr
    else:
        assert other.returncode == 0, other.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path, kind: str) -> None:
    """At the end of an epoch, where the second process has workers for a Dataset, and within one."""
    start = (*QUICK, *KINDS[kind], "trainer.max_epochs=3")
    done = forked("train.py", *start, f"hydra.run.dir={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stderr
    parts = ("tests/helpers/stopping.py", *start, f"hydra.run.dir={tmp_path / 'parts'}", "resume=auto")
    epoch = {"dataset": 9, "module": 8}[kind]
    workers = ["data.num_workers=2"] if kind == "dataset" else []
    for fault, options in ((f"train:{epoch}:SIGTERM", []), ("train:4:SIGTERM", workers)):
        stopped = forked(parts[0], fault, *parts[1:], *options)
        assert stopped.returncode == 143, stopped.stderr
    done = forked(parts[0], "nowhere:0:SIGTERM", *parts[1:])
    assert done.returncode == 0 and f"step {epoch + 4}, 1 epochs completed" in done.stderr, done.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_cells_of_a_sweep_have_data_of_ones_own(tmp_path: Path) -> None:
    done = sweep(tmp_path / "sweep", "model.latent_dim=2,3", *QUICK, *DATASET, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    cells = sorted((tmp_path / "sweep").glob("*/metrics.json"))
    assert len(cells) == 2 and (tmp_path / "sweep" / "report.html").exists()
    runs = f"run=[{','.join(str(cell.parent) for cell in cells)}]"
    compared = forked("scripts/evaluate.py", runs, "metrics=[elbo]", "allow_targets=[tests.]", COLUMNS="200")
    assert compared.returncode == 0 and "was checked on a sample of their examples only" in compared.stdout


def test_a_model_is_conditioned_on_what_a_dataset_knows(train: Train, tmp_path: Path) -> None:
    """From training to evaluation and pictures; its labels are read of all items before."""
    conditional = ("conditioning=label", "model=mlp_vae", "model.latent_dim=2", "trainer=smoke")
    done = train(*DATASET, *conditional, "data.test_source={train:false,count:50}")
    assert done.returncode == 0, done.stderr
    assert "reading the" in done.stderr
    run = tmp_path / "run"
    assert "kinds:\n      label: 2" in (run / "config.yaml").read_text()
    assert metrics_of(run)["given"] == "label" and (run / "pictures" / "reconstructions.png").exists()
    scores = ("metrics=[elbo,nll]", "metrics.nll.num_samples=100", "allow_targets=[tests.]")
    evaluated = forked("scripts/evaluate.py", f"run={run}", *scores)
    assert evaluated.returncode == 0, evaluated.stderr
    values = json.loads((run / "evaluation.json").read_text())
    assert abs(values["test/nelbo"] - metrics_of(run)["test/nelbo"]) < 1 and values["test/nll"] < values["test/nelbo"]
    drawn = forked("scripts/draw.py", "by_class", f"run={run}", "allow_targets=[tests.]")
    assert drawn.returncode == 0 and (run / "pictures" / "by_class.png").exists(), drawn.stderr


SOURCE, MODULES = f"data.source._target_={PACKAGE}", f"data.module._target_={PACKAGE}"
ERRORS = {
    "data=dataset": "data.source._target_: has no default; type data.source._target_=...",
    "data=datamodule": "data.module._target_: has no default; type data.module._target_=...",
    f"data=dataset {SOURCE}.Bar": f"{SOURCE}.Bar: does not exist; did you mean {PACKAGE}.Bars?",
    f"data=dataset {SOURCE}.Stream": f"data.source={PACKAGE}.Stream: is an IterableDataset, which has no positions",
    f"data=digits data._target_={PACKAGE}.BarModule": f"data._target_={PACKAGE}.BarModule: does not serve the data of "
    f"a run itself; use data=datamodule {MODULES}.BarModule",
    f"data=function {SOURCE}.Bars": f"data.source={PACKAGE}.Bars: made a Bars, and not nelbo.data.Arrays; use "
    f"data=dataset {SOURCE}.Bars",
    f"data=datamodule {MODULES}.WithoutTest": f"data.module={PACKAGE}.WithoutTest: has no test_dataloader, which a run",
    f"data=datamodule {MODULES}.BarModule trainer.accelerator=cpu trainer.devices=2 trainer.strategy=ddp": ""
    "trainer.devices=2: the loaders of a DataModule would give every process all batches",
    f"data=dataset {SOURCE}.Broken +data.source.how=hole +data.source.at=0 data.seed=3": f"{PACKAGE}.Broken, training: "
    "item 0 has values that are not finite",
    f"data=dataset {SOURCE}.Bars data.batch_size=0": "data.batch_size=0: must be a whole number of at least 1",
}


@pytest.mark.parametrize("command", ERRORS)
def test_data_that_cannot_be_used_end_in_one_line(train: Train, tmp_path: Path, command: str) -> None:
    done = train(*QUICK, *command.split(), "allow_targets=[tests.]", "trainer.max_epochs=1")
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {ERRORS[command]}"), line
    assert "Traceback" not in done.stderr


def test_a_function_of_ones_own_needs_its_name_alone(train: Train, tmp_path: Path) -> None:
    function = f"data.source._target_={PACKAGE}.some_digits"
    done = train(*QUICK, "data=function", function, "allow_targets=[tests.]", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(tmp_path / "run")
    assert metrics["data"] == f"{PACKAGE}.some_digits" and len(metrics["data_sha256"]) == 64
    assert "provenance" not in done.stderr


def test_options_of_ones_own_data_can_be_given_again() -> None:
    source = {"_target_": f"{PACKAGE}.Bars", "_partial_": True, "count": 10}
    dataset = {"source": source, "test_source": {"_target_": f"{PACKAGE}.Bars", "count": 5}, "name": "mine"}
    allowed = ("tests.",)
    moved = relocated(dataset, {"source": {"count": 20}, "test_source": {"count": 7}}, allowed)
    assert moved["source"]["count"] == 20 and moved["test_source"] == {"_target_": f"{PACKAGE}.Bars", "count": 7}
    module = {"module": {"_target_": f"{PACKAGE}.BarModule"}, "name": "mine"}
    assert relocated(module, {"module": {"workers": 2}}, allowed)["module"]["workers"] == 2
