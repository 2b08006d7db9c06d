"""A run cuts, removes and writes over its own files alone: what else is in its directory is left, or it refuses."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from nelbo.directories.logs import EVENTS, LIST, lengths, rewind
from nelbo.directories.names import WRITTEN
from nelbo.errors import ConfigError
from nelbo.finished.evaluation_file import Results
from nelbo.running.directory import begin
from nelbo.running.resume import find_resume_point
from nelbo.sweeps.report.hparams import FOLDER
from nelbo.sweeps.report.results_file import CSV, JSON
from nelbo.sweeps.report.write import FIGURES, HTML, write_report
from nelbo.sweeps.sweep import WRITTEN as SWEEP_WRITTEN
from nelbo.sweeps.sweep import Sweep
from tests.helpers.findings import FACTS, make_findings
from tests.helpers.forks import forked
from tests.helpers.interrupted import run
from tests.helpers.run_directories import contents, start_run
from tests.helpers.sweep_directories import scores, write_sweep

STRANGERS = (
    "events.out.tfevents.1.somebody.1.0",
    "theirs/events.out.tfevents.1.somebody.1.0",
    "theirs/history.csv",
    "theirs/metrics.csv",
    "theirs/.partial-last.ckpt.12",
    ".partial-notes.txt.12",
    ".partial-config.yaml",
    "pictures/holiday.png",
)
LATER = (
    "tensorboard/events.out.tfevents.9.somebody.1.0",
    "checkpoints/.partial-mine",
    "history.csv",
    "kl_per_unit.csv",
)
"""What somebody puts into the directory of a run that writes no history."""


def put(folder: Path, *names: str) -> dict[str, bytes]:
    """Files of somebody else."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"somebody's {name}\n")
    return {name: (folder / name).read_bytes() for name in names}


def test_a_run_leaves_files_of_somebody_else_in_its_directory(tmp_path: Path) -> None:
    """When it starts, when it was killed and goes on, and when it goes on for more epochs."""
    unvalidated = ["trainer.max_epochs=2", "data.validation_size=0", "logger=tensorboard"]
    theirs = put(tmp_path, *STRANGERS)
    assert run(tmp_path, unvalidated, "train:9:SIGKILL").returncode == -9
    assert theirs.items() <= contents(tmp_path).items()
    theirs |= put(tmp_path, *LATER)
    done = run(tmp_path, unvalidated)
    assert done.returncode == 0 and theirs.items() <= contents(tmp_path).items(), done.stderr
    done = run(tmp_path, [*unvalidated, "trainer.max_epochs=3"])
    assert done.returncode == 0 and theirs.items() <= contents(tmp_path).items(), done.stderr


@pytest.mark.parametrize("name", [*WRITTEN, "checkpoints/best.ckpt"])
def test_a_new_run_refuses_to_write_over_a_file_of_somebody_else(name: str, tmp_path: Path) -> None:
    before = put(tmp_path, f"{name}/step-000001.pt" if name == "crash" else name)
    told = "holds a run with checkpoints" if name.startswith("checkpoints") else f"holds {name} already; give another"
    with pytest.raises(ConfigError, match=told):
        find_resume_point(tmp_path, {"resume": None}, None)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "logger"),
    [
        ("csv/metrics.csv", "csv"),
        ("tensorboard/events.out.tfevents.1.somebody.1.0", "tensorboard"),
        (".hydra/config.yaml", "none"),
        (".hydra/overrides.yaml", "none"),
    ],
)
def test_a_new_run_refuses_logs_and_records_of_somebody_else(name: str, logger: str, tmp_path: Path) -> None:
    put(tmp_path, name)
    done = start_run(tmp_path, f"logger={logger}")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"holds {name.partition('/')[0]}" in done.stderr and "give another directory" in done.stderr
    assert (tmp_path / name).read_text() == f"somebody's {name}\n" and not (tmp_path / "checkpoints").exists()


def test_a_run_that_goes_on_refuses_a_history_that_it_did_not_write(tmp_path: Path) -> None:
    assert run(tmp_path, ["trainer.max_epochs=1", "trainer.limit_val_batches=0"]).returncode == 0
    put(tmp_path, "history.csv")
    before = contents(tmp_path)
    done = run(tmp_path, ["trainer.max_epochs=2", "resume_changes=[trainer.limit_val_batches]"])
    assert done.returncode == 2 and "holds history.csv already" in done.stderr, done.stderr
    assert contents(tmp_path) == before


def test_an_evaluation_is_set_aside_when_the_run_goes_on(tmp_path: Path) -> None:
    """And counts again for the checkpoint that it was of."""
    assert run(tmp_path, ["trainer.max_epochs=1"]).returncode == 0
    facts = {**FACTS, "checkpoint_sha256": "of the first"}
    Results(tmp_path, facts).add("nll", make_findings(nll=1.0), {}, 0)
    before = [(tmp_path / f"evaluation.{suffix}").read_bytes() for suffix in ("json", "npz")]
    done = run(tmp_path, ["trainer.max_epochs=2"])
    assert done.returncode == 0 and "evaluation-1.json" in done.stderr, done.stderr
    assert [(tmp_path / f"evaluation-1.{suffix}").read_bytes() for suffix in ("json", "npz")] == before
    assert not (tmp_path / "evaluation.json").exists() and not (tmp_path / "evaluation.npz").exists()
    assert Results(tmp_path, facts).values["test/nll"] == 1.0
    assert "test/nll" not in Results(tmp_path, {**FACTS, "checkpoint_sha256": "of another"}).values


def events(folder: Path, step: int, suffix: str = "") -> Path:
    """A file of TensorBoard's with one value, as this process writes it."""
    before = set(folder.glob("*"))
    writer = SummaryWriter(folder, filename_suffix=suffix)
    writer.add_scalar("loss", step, step)
    writer.close()
    (file,) = set(folder.glob("*")) - before
    return file


def steps(folder: Path) -> list[int]:
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("loss")]


def test_events_go_back_to_a_checkpoint_twice_and_those_of_evaluations_stay(tmp_path: Path) -> None:
    """A run that is killed again before it wrote another checkpoint finds its files under the names that it gave."""
    board = tmp_path / "board"
    begin(tmp_path, {}, 1, {".run": ""}, boards=["board"])
    events(board, 1), events(board, 2)
    were = lengths(tmp_path)
    assert len(were) == 2 and all(name.startswith(f"board/{EVENTS}") for name in were)
    evaluation = events(board, 7, ".evaluation")
    for _ in range(2):
        events(board, 3)  # after the checkpoint
        begin(tmp_path, were, 1, {".run": ""}, boards=["board"])
        assert evaluation.exists() and steps(board) == [1, 2, 7]
    assert sorted(file.name for file in board.iterdir())[:2] == [
        f"{EVENTS}{number:010d}.{socket.gethostname()}.{os.getpid()}.{file.rpartition('.')[2]}"
        for number, file in enumerate(sorted(were))
    ]
    later = lengths(tmp_path)
    assert rewind(tmp_path, later) == list(later) and steps(board) == [1, 2, 7]


def test_a_run_without_its_hidden_files_goes_on(tmp_path: Path) -> None:
    """As `cp run/*` leaves it."""
    chosen = ["trainer.max_epochs=2", "logger=csv"]
    assert run(tmp_path / "run", chosen, "train:9:SIGTERM").returncode == 143
    for name in (".run", LIST):
        (tmp_path / "run" / name).unlink()
    done = run(tmp_path / "run", chosen)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 3


def test_evaluating_a_run_leaves_its_logs_to_it(smoke_run: Path, tmp_path: Path) -> None:
    """TensorBoard's files of an evaluation are none of those that a run takes back."""
    folder = Path(shutil.copytree(smoke_run, tmp_path / "run"))
    before = lengths(folder)
    done = forked("scripts/evaluate.py", f"run={folder}", "metrics=[active_units]", "limit=20")
    assert done.returncode == 0 and json.loads((folder / "evaluation.json").read_text()), done.stderr
    assert lengths(folder) == before and len(list((folder / "tensorboard").glob(f"{EVENTS}*.evaluation"))) == 1


@pytest.mark.parametrize("name", [*SWEEP_WRITTEN, CSV, JSON, HTML, FIGURES, FOLDER, "optuna.json"])
def test_a_new_sweep_refuses_to_write_over_a_file_of_somebody_else(name: str, tmp_path: Path) -> None:
    before = put(tmp_path, f"{name}/a.png" if name in (FIGURES, FOLDER) else name)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with pytest.raises(ConfigError, match=f"^hydra.sweep.dir=.* holds {name} already; give another directory"):
        Sweep(config, None, None, [], []).__enter__()  # type: ignore[arg-type]
    assert contents(tmp_path) == before


def test_a_report_leaves_events_of_somebody_else(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [{"overrides": ["seed=1"], "metrics": scores(1, 2)}])
    theirs = put(sweep, "tensorboard/events.out.tfevents.1.somebody.1.0", "tensorboard/a/events.out.tfevents.1.b.1.0")
    for _ in range(2):
        write_report(sweep)
        assert theirs.items() <= contents(sweep).items()
    assert len(list((sweep / "tensorboard").glob(f"{EVENTS}*"))) == 2  # that of the second report alone
