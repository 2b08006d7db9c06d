"""Loggers of services: their offline files, pictures, hyperparameters, resuming, cells of sweeps, and refusals."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from nelbo.errors import ConfigError
from nelbo.training.loggers import MLFlowLogger, WandbLogger, closing
from tests.helpers.forks import Done, forked

SMALL = ("model=mlp_vae", "model.latent_dim=2", "data=digits", "trainer=smoke", "callbacks.projector=null")
PICTURES = {"reconstructions", "samples", "traversals", "manifold", "aggregate_posterior", "kl_per_unit"}


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs {package}")


def wandb_logger(folder: Path, offline: bool | None = None) -> WandbLogger:
    return WandbLogger(folder, project="nelbo", name=None, offline=offline)


def train(folder: Path, *overrides: str, **environment: str) -> Done:
    done = forked("train.py", *SMALL, *overrides, f"hydra.run.dir={folder}", **environment)
    assert done.returncode == 0, done.stderr
    return done


@needs("mlflow")
def test_mlflow_has_scalars_pictures_and_hyperparameters_and_continues_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    train(tmp_path, "logger=mlflow")
    train(tmp_path, "logger=mlflow", "trainer.max_epochs=2", "resume=auto")
    client = MlflowClient((tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("nelbo")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == tmp_path.name and run.info.status == "FINISHED"
    assert run.info.run_id == (tmp_path / "mlflow" / "run_id").read_text().strip()
    assert run.data.params["model.latent_dim"] == "2" and run.data.params["model"] == "mlp_vae"
    assert run.data.params["trainer.max_epochs"] == "1" and run.data.tags["resumed.trainer.max_epochs"] == "2"
    assert [value.step for value in client.get_metric_history(run.info.run_id, "train/nelbo")] == list(range(1, 11))
    assert {"val/nelbo", "test/nelbo"} <= set(run.data.metrics) and "epoch" not in run.data.metrics
    files = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert {Path(file).name.partition("+")[0] for file in files} == {f"pictures~{name}" for name in PICTURES}


@needs("wandb")
def test_wandb_writes_files_offline_and_continues_the_run(tmp_path: Path) -> None:
    train(tmp_path, "logger=wandb")
    (tmp_path / "wandb" / "latest-run").unlink()
    train(tmp_path, "logger=wandb", "trainer.max_epochs=2", "resume=auto")
    identifier = (tmp_path / "wandb" / "run_id").read_text().strip()
    parts = sorted((tmp_path / "wandb").glob(f"offline-run-*-{identifier}"))
    assert parts and sorted((tmp_path / "wandb").glob("*run-*-*")) == parts
    written = b"".join(file.read_bytes() for part in parts for file in part.glob("*.wandb"))
    for name in ("train/nelbo", "val/nelbo", "test/nelbo", "model.latent_dim", "nelbo"):
        assert name.encode() in written, name
    images = {file.name.partition("_")[0] for part in parts for file in part.glob("files/media/images/pictures/*.png")}
    assert images == {name.partition("_")[0] for name in PICTURES}


@needs("wandb")
@needs("mlflow")
def test_cells_of_a_sweep_have_runs_of_their_own_with_short_names(tmp_path: Path) -> None:
    chosen = ["logger=[wandb,mlflow]", "callbacks=none", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    done = forked("train.py", "-m", *SMALL[:-1], *chosen, "hydra/launcher=local", "hydra.launcher.n_jobs=1")
    assert done.returncode == 0, done.stderr
    cells = sorted(tmp_path.glob("seed=*"))
    for service in ("wandb", "mlflow"):
        names = {(cell / service / "run_id").read_text() for cell in cells}
        assert len(names) == len(cells) == 2
    assert all(list(cell.glob("wandb/offline-run-*/run-*.wandb")) for cell in cells)


@needs("wandb")
def test_the_mode_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    modes = {offline: wandb_logger(tmp_path, offline)._mode for offline in (None, True, False)}
    assert modes == {None: "offline", True: "offline", False: "online"}
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_logger(tmp_path)._mode == "disabled" and wandb_logger(tmp_path, True)._mode == "offline"


@needs("wandb")
def test_wandb_online_without_a_key_is_one_line(tmp_path: Path) -> None:
    overrides = ["logger=wandb", "logger.wandb.offline=false", f"hydra.run.dir={tmp_path}"]
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path), "WANDB_API_KEY": "", "NETRC": "/dev/null"}
    done = forked("train.py", *SMALL, *overrides, **nowhere)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and line.startswith("error: logger.wandb: ")
    assert "logger.wandb.offline=true needs neither account nor network" in line


@needs("mlflow")
def test_an_mlflow_server_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    overrides = ["logger=mlflow", "logger.mlflow.tracking_uri=nothing://here", f"hydra.run.dir={tmp_path}"]
    done = forked("train.py", *SMALL, *overrides)
    assert done.returncode == 2 and "error: logger.mlflow: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("kind", "package"), [(WandbLogger, "wandb"), (MLFlowLogger, "mlflow")])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[WandbLogger | MLFlowLogger], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"^logger={package}: needs a package: pip install '\.\[{package}\]'$"):
        if kind is WandbLogger:
            wandb_logger(tmp_path)
        else:
            MLFlowLogger(tmp_path, experiment_name="nelbo", run_name=None, tracking_uri=None)


def test_loggers_are_closed_after_an_error_too() -> None:
    ended = []

    class Closed(WandbLogger):
        def __init__(self) -> None: ...

        def close(self, *, failed: bool) -> None:
            ended.append(failed)

    with closing([Closed()]):
        pass
    with pytest.raises(ValueError, match="stop"), closing([Closed()]):
        raise ValueError("stop")
    assert ended == [False, True]
