"""A run that receives a signal to stop saves a checkpoint, exits with the signal's status, and can be resumed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed

from nelbo.checkpoints.record import read_checkpoint
from nelbo.training.signals import Signals
from tests.helpers.children import Child
from tests.helpers.damage import SMALL_NETS
from tests.helpers.downloads import needs
from tests.helpers.forks import Done, forked
from tests.helpers.interrupted import SMALL, assert_same_run, run
from tests.helpers.processes import alive, wait_for

CHOSEN = [*SMALL_NETS, "trainer.max_epochs=2"]
SECONDS = 5.0


def stopped(folder: Path, incident: str, *overrides: str) -> tuple[Done, float]:
    """Run with an incident, and return the finished run and the seconds from the incident to its end."""
    happened = folder.with_name("happened")
    into = (f"hydra.run.dir={folder}", "resume=auto")
    done = forked("tests/helpers/incidents.py", incident, *overrides, *into, HAPPENED=str(happened))
    return done, time.time() - happened.stat().st_mtime


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, CHOSEN).returncode == 0
    return folder


def step_of(folder: Path) -> int:
    """Return the optimiser step of the last checkpoint."""
    return int(read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"])


@pytest.mark.parametrize(
    ("incident", "step", "overrides"),
    [
        ("train:9:SIGTERM", 9, []),
        ("train:9:SIGINT", 9, []),
        ("train:9:SIGHUP", 9, []),
        ("train:9:hangup", 9, ["callbacks=default"]),
        ("train:12:group-SIGTERM", 12, ["data.num_workers=2"]),
        ("validation:2:SIGTERM", 12, []),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sigterm(tmp_path: Path, whole: Path, incident: str, step: int, overrides: list[str]) -> None:
    """SIGINT is Ctrl-C; a hangup closes the terminal. The step in which the signal arrives is finished first.

    After the twelfth step comes a validation, for which the data workers, in the same process group, must be alive.
    """
    folder = tmp_path / "run"
    done, seconds = stopped(folder, incident, *SMALL, *CHOSEN, *overrides)
    signum = signal.Signals[incident.rpartition(":")[2].rpartition("-")[2].replace("hangup", "SIGHUP")]
    assert done.returncode == 128 + signum, done.stderr
    assert seconds < SECONDS and step_of(folder) == step
    assert f"stopped by {signum.name}; to resume: python train.py " in (folder / "train.log").read_text()
    assert "Traceback" not in done.stdout + done.stderr and not (folder / "metrics.json").exists()
    if incident == "train:12:group-SIGTERM":
        assert_same_run_after(folder, whole)


def assert_same_run_after(folder: Path, whole: Path) -> None:
    """Resume, and compare with the uninterrupted run."""
    assert run(folder, CHOSEN).returncode == 0
    assert_same_run(whole, folder)


def test_sigterm_with_an_ignored_signal(tmp_path: Path, whole: Path) -> None:
    """As with nohup python train.py."""
    done, _ = stopped(tmp_path / "run", "train:9:ignored-SIGHUP", *SMALL, *CHOSEN)
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.parametrize("incident", ["data:1:SIGTERM", "train:3:twice-SIGTERM"])
def test_sigterm_at_once(tmp_path: Path, incident: str) -> None:
    """While data are loaded there is nothing to save; a second signal ends the run without saving."""
    done, seconds = stopped(tmp_path / "run", incident, *SMALL, *CHOSEN)
    assert done.returncode == 143 and seconds < SECONDS, done.stderr
    assert "stopped by SIGTERM" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_while_a_process_waits_for_a_missing_one(tmp_path: Path, signum: signal.Signals) -> None:
    """Rank 0 of 2 waits in C++, where Python calls no handlers; it still runs its cleanup before it exits."""

    def rendezvous() -> None:
        signal.signal(signum, signal.SIG_DFL)  # the tests may have been started with SIGINT ignored
        with Signals() as signals:
            signals.before_exit = (tmp_path / "ended its other processes").touch
            (tmp_path / "waits").touch()
            torch.distributed.TCPStore("127.0.0.1", 0, world_size=2, is_master=True, wait_for_workers=True)

    waiting = Child(rendezvous)
    try:
        wait_for((tmp_path / "waits").exists, 30)
        time.sleep(0.5)  # the C++ code is reached within microseconds
        os.kill(waiting.pid, signum)
        wait_for(lambda: not alive(waiting.pid), 2 * SECONDS)
    finally:
        os.kill(waiting.pid, signal.SIGKILL)  # a zombie by then
        status, _ = waiting.wait()
    assert status == 128 + signum
    assert (tmp_path / "ended its other processes").exists()


@pytest.mark.slow
@needs("mnist")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_sigterm_of_a_run_of_real_size(tmp_path: Path, signum: signal.Signals) -> None:
    done, seconds = stopped(tmp_path / "run", f"train:20:{signum.name}", "model=conv_vae", "data=mnist")
    assert done.returncode == 128 + signum, done.stderr
    assert seconds < SECONDS and step_of(tmp_path / "run") == 20
    print(f"{seconds:.2f} s")
