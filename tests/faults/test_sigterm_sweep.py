"""A sweep or a Slurm job that is stopped by a signal saves its runs, and the same command resumes them."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from nelbo.checkpoints.record import read_checkpoint
from tests.helpers.damage import SMALL_NETS
from tests.helpers.forks import Done, forked
from tests.helpers.interrupted import SMALL, assert_same_run, differences
from tests.helpers.sweeps import records, results

CHOSEN = (*SMALL, *SMALL_NETS, "trainer.max_epochs=2")
CELLS = (*CHOSEN, "seed=1,2,3")


def incident(folder: Path, description: str, *overrides: str, **environment: str) -> Done:
    """Run train.py with an incident."""
    environment |= {"IN": str(folder), "HAPPENED": str(folder / "happened")}
    return forked("tests/helpers/incidents.py", description, *overrides, **environment)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an uninterrupted sweep."""
    folder = tmp_path_factory.mktemp("whole")
    done = incident(folder, "nowhere:0:", "-m", *CELLS, f"hydra.sweep.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("launcher", "signum"),
    [
        ("local", signal.SIGTERM),
        pytest.param("local", signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param("basic", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("basic", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_sigterm_of_a_sweep(tmp_path: Path, whole: Path, launcher: str, signum: signal.Signals) -> None:
    """The running cells save checkpoints and are resumed from them."""
    sweep = ("-m", *CELLS, f"hydra/launcher={launcher}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    done = incident(tmp_path, f"train:9:sweep-{signum.name}", *sweep)
    assert done.returncode == 128 + signum, done.stderr
    folders = sorted((tmp_path / "sweep").glob("seed=*"))
    stopped = [folder for folder in folders if list(folder.glob("checkpoints/last.ckpt"))]
    steps = [read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] for folder in stopped]
    assert max(steps) >= 9 and not results(tmp_path / "sweep")
    assert {record["state"] for record in records(tmp_path / "sweep").values()} == {"stopped"}

    again = incident(tmp_path, "nowhere:0:", *sweep)
    assert again.returncode == 0 and "3 cells, 3 to run" in again.stderr, again.stderr
    for folder, step in zip(stopped, steps, strict=True):
        assert re.search(rf"resuming from .*last.ckpt: step {step},", (folder / "train.log").read_text())
    assert not differences(results(tmp_path / "sweep"), results(whole))


SCONTROL = """
import os, sys
print(*sys.argv[1:], file=open(os.environ["ASKED"], "a"))
"""
JOBS = {
    "7": {"SLURM_JOB_ID": "7"},
    "70_3": {"SLURM_JOB_ID": "73", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"},
}
TASK = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Environment of a job, with a stand-in for scontrol."""
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable}\n{SCONTROL}")
    command.chmod(0o755)
    return {**TASK, "PATH": f"{command.parent}:{os.environ['PATH']}", "ASKED": str(tmp_path / "asked")}


def test_sigterm_of_slurm_jobs(tmp_path: Path, slurm: dict[str, str]) -> None:
    """Two jobs of one config are signalled and restarted: each resumes its own run, and a third starts a new one."""
    for number, name in enumerate(JOBS, start=1):
        (tmp_path / "happened").unlink(missing_ok=True)
        done = incident(tmp_path, f"train:{8 + number}:SIGUSR1", *CHOSEN, **slurm, **JOBS[name])
        assert done.returncode == 128 + signal.SIGUSR1, done.stderr
        assert (tmp_path / "asked").read_text().splitlines()[number - 1 :] == [f"requeue {name}"]
    saved = {path.parents[1] for path in tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")}
    assert len(saved) == 2

    other = incident(tmp_path, "nowhere:0:", *CHOSEN, **slurm, SLURM_JOB_ID="8", SLURM_RESTART_COUNT="1")
    assert other.returncode == 0 and "resuming" not in other.stderr, other.stderr
    (apart,) = {path.parent for path in tmp_path.glob("outputs/*/*/metrics.json")}
    assert apart not in saved
    for number, name in enumerate(JOBS, start=1):
        done = incident(tmp_path, "nowhere:0:", *CHOSEN, **slurm, **JOBS[name], SLURM_RESTART_COUNT="1")
        assert done.returncode == 0 and f"last.ckpt: step {8 + number}," in done.stderr, done.stderr
    assert {path.parent for path in tmp_path.glob("outputs/*/*/metrics.json")} == {*saved, apart}
    for folder in saved:
        assert_same_run(apart, folder)


def test_sigterm_with_an_existing_handler(tmp_path: Path) -> None:
    """For submitit's SIGUSR2 the run is saved first, then submitit's handler is called."""
    heard, sweep = tmp_path / "heard", tmp_path / "sweep"
    one = ("-m", *CHOSEN, "seed=1", "hydra/launcher=basic", f"hydra.sweep.dir={sweep}")
    done = incident(tmp_path, "train:9:awaited-SIGUSR2", *one, HEARD=str(heard))
    assert done.returncode == 5, done.stderr
    assert heard.read_text() == "best.ckpt last.ckpt"
    (last,) = sweep.glob("*/checkpoints/last.ckpt")
    assert read_checkpoint(last)["global_step"] == 9
    assert [record["state"] for record in records(sweep).values()] == ["stopped"]
