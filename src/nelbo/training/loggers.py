"""Loggers of a run, which continue what they have written when it is resumed."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning import loggers

from nelbo.directories.logs import HISTORY, UNIT_HISTORY
from nelbo.errors import ConfigError, NelboError, first_line
from nelbo.files import write_text
from nelbo.training import compat

__all__ = ["CSVLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"]

RUN_ID = "run_id"
"""File in the folder of a logger of a service with the service's name of the run, which a resumed run continues."""


def log_names(chosen: Sequence[loggers.Logger], folder: Path, *, validated: bool) -> tuple[list[str], list[str]]:
    """Return the tables that a run will write, and the folders of its TensorBoard files, relative to its directory.

    Files with the names of services for the run count as tables, of one line.

    Args:
        chosen: the loggers of the run.
        folder: the run's directory.
        validated: whether there is a validation set, and so a history.
    """
    tables = [folder / HISTORY, folder / UNIT_HISTORY] if validated else []
    for logger in chosen:
        if isinstance(logger, loggers.CSVLogger):
            tables.append(Path(logger.log_dir, compat.AppendingWriter.NAME_METRICS_FILE))
        elif isinstance(logger, WandbLogger | MLFlowLogger):
            tables.append(logger.id_file)
    boards = [Path(logger.log_dir) for logger in chosen if isinstance(logger, loggers.TensorBoardLogger)]
    return tuple(  # type: ignore[return-value]
        [place.relative_to(folder).as_posix() for place in places if place.is_relative_to(folder)]
        for places in (tables, boards)
    )


@contextlib.contextmanager
def closing(chosen: Sequence[loggers.Logger]) -> Iterator[None]:
    """A context at whose end the loggers of services have sent or written everything.

    Args:
        chosen: the loggers of the run.
    """
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in chosen:
            if isinstance(logger, WandbLogger):
                logger.close(failed=failed)


class TensorBoardLogger(loggers.TensorBoardLogger):
    """Lightning's TensorBoard logger without the curve `epoch`, which Lightning adds to the values of each validation.

    Configs have Lightning's class, which `make_loggers` replaces by this one, so that they are those of earlier
    versions, whose runs can be resumed.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write scalars."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)


class CSVLogger(loggers.CSVLogger):
    """Lightning's CSV logger, which keeps the rows of its table when a run is resumed."""

    @property
    @rank_zero_experiment
    def experiment(self) -> compat.AppendingWriter:
        """The writer of the table."""
        return compat.appending_writer(self)


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger for Weights & Biases, offline by default and without an account.

    A resumed run continues the same run there; offline it is another part of it, in a folder of its own, with the same
    name of the run.

    Args:
        save_dir: the run's directory; files are in `wandb/` below it.
        project: the project.
        name: the name of the run; None for that of the directory.
        offline: true writes files only; false sends them; None does what the environment variable `WANDB_MODE` says,
            and writes files where it is not set.
        options: further options of Lightning's logger, and of `wandb.init`.

    Raises:
        ConfigError: if wandb is not installed.
    """

    def __init__(
        self,
        save_dir: str | Path,
        *,
        project: str,
        name: str | None,
        offline: bool | None,
        **options: Any,
    ) -> None:
        require("wandb")
        modes = {True: "offline", False: "online", None: None if os.environ.get("WANDB_MODE") else "offline"}
        options.setdefault("mode", modes[offline])
        if (options["mode"] or os.environ["WANDB_MODE"]) in ("offline", "dryrun"):
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # offline it sends nothing, crash reports included
            options["resume"] = None  # what `resume` asks a server for
        super().__init__(name=name or Path(save_dir).name, save_dir=save_dir, project=project, **options)
        self._wandb_init.pop("anonymous", None)  # which this version of wandb warns of
        self.id_file = Path(save_dir) / "wandb" / RUN_ID

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of Weights & Biases.

        Raises:
            NelboError: if it refuses its options, or cannot be reached.
        """
        if self._experiment is None:
            import wandb

            self._wandb_init["id"] = self._id = self._own_id()
            self._wandb_init.setdefault(
                "settings", wandb.Settings(console="off", silent=self._mode in ("offline", "dryrun"))
            )
            try:
                return super().experiment
            except (wandb.errors.Error, TypeError, ValueError) as error:
                hint = "logger.wandb.offline=true needs neither account nor network, `wandb login` stores a key"
                raise NelboError(f"logger.wandb: {first_line(error)}; {hint}") from error
        return self._experiment

    def close(self, *, failed: bool) -> None:
        """Wait until everything is written or sent, and end the run.

        Args:
            failed: whether the run ended by an error or a signal.
        """
        if self._experiment is not None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._experiment.finish(exit_code=int(failed))
            self._experiment = None

    @property
    def _mode(self) -> str:
        return self._wandb_init["mode"] or os.environ.get("WANDB_MODE", "")

    def _own_id(self) -> str:
        """Return the name of the run there, a new one for a run that starts."""
        if not self.id_file.exists():
            self.id_file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.id_file, f"{uuid.uuid4().hex[:12]}\n")
        return self.id_file.read_text().strip()


class MLFlowLogger(loggers.MLFlowLogger):
    """Lightning's logger for MLflow, with files in the run's directory by default.

    A resumed run continues the same run there. Its hyperparameters stay as they were; those that have changed are its
    tags `resumed.NAME`.

    Args:
        save_dir: the run's directory; files are in `mlflow/` below it.
        experiment_name: the experiment.
        run_name: the name of the run; None for that of the directory.
        tracking_uri: where MLflow is, such as `http://127.0.0.1:5000` or `sqlite:////path/mlflow.db`; None for the
            environment variable `MLFLOW_TRACKING_URI`, and for files where it is not set.
        options: further options of Lightning's logger.

    Raises:
        ConfigError: if mlflow is not installed.
        NelboError: if MLflow refuses its options.
    """

    def __init__(
        self,
        save_dir: str | Path,
        *,
        experiment_name: str,
        run_name: str | None,
        tracking_uri: str | None,
        **options: Any,
    ) -> None:
        require("mlflow")
        folder = Path(save_dir).absolute() / "mlflow"
        tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or folder.as_uri()
        if tracking_uri.startswith(loggers.mlflow.LOCAL_FILE_URI_PREFIX):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 prefers databases, and asks for this
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # files are for work without a network
        logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)  # it warns of new experiments
        name = run_name or Path(save_dir).name
        with _of_mlflow():
            super().__init__(experiment_name=experiment_name, run_name=name, tracking_uri=tracking_uri, **options)
        self.id_file = folder / RUN_ID

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client of MLflow, once the run exists there.

        Raises:
            NelboError: if it cannot be reached.
        """
        if not self._initialized:
            resumed = self.id_file.exists()
            if resumed:
                self._run_id = self.id_file.read_text().strip()
            with _of_mlflow():
                client = super().experiment
                if resumed:
                    client.update_run(self._run_id, status="RUNNING")
            self.id_file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.id_file, f"{self._run_id}\n")
        return self._mlflow_client

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars without `epoch`, as in TensorBoard."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log those hyperparameters that the run does not have yet; MLflow refuses other values for those it has."""
        client, known = self.experiment, self.experiment.get_run(self.run_id).data.params
        for name, value in params.items():
            if name in known and known[name] != str(value)[: len(known[name])]:
                client.set_tag(self.run_id, f"resumed.{name}", str(value))
        super().log_hyperparams({name: value for name, value in params.items() if name not in known})


@contextlib.contextmanager
def _of_mlflow() -> Iterator[None]:
    """A context in which errors of MLflow become one line."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, ImportError) as error:
        hint = "tracking_uri=null writes files, which need neither server nor database"
        raise NelboError(f"logger.mlflow: {first_line(error)}; {hint}") from error


def require(name: str) -> None:
    """Check that the package of a logger is installed.

    Raises:
        ConfigError: naming the extra to install.
    """
    if importlib.util.find_spec(name) is None:
        raise ConfigError("logger", name, f"needs a package: pip install '.[{name}]'", located=True)
