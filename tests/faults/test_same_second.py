"""Runs that start at the same second use separate directories; a directory in use is refused."""

from __future__ import annotations

import time
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nelbo.running.directory import locked
from tests.helpers.children import Child
from tests.helpers.damage import SMALL_NETS
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL, assert_same_run, run
from tests.helpers.processes import wait_for

STARTS = 8
CHOSEN = [*SMALL_NETS, "trainer.max_epochs=2"]


def test_same_second(tmp_path: Path) -> None:
    """Eight starts at the same second give eight directories."""
    smoke = (*SMALL, *SMALL_NETS, "trainer=smoke")
    done = forked("tests/helpers/incidents.py", "nowhere:0:", *smoke, IN=str(tmp_path), STARTS=str(STARTS))
    assert done.returncode == 0, done.stderr
    (second,) = {path.parent.name.rpartition("-")[0] for path in tmp_path.glob("outputs/2026-01-02/*/metrics.json")}
    assert second == "03-04-05"
    assert len(list(tmp_path.glob("outputs/*/*/metrics.json"))) == len(list(tmp_path.glob("outputs/*/*"))) == STARTS


def test_same_second_in_one_directory(tmp_path: Path) -> None:
    """The second run is refused while the first lives, and accepted after it was killed."""
    folder = tmp_path / "run"

    def hold() -> None:
        with locked(folder):
            (tmp_path / "holds").touch()
            time.sleep(600)

    first = Child(hold)
    try:
        wait_for((tmp_path / "holds").exists, seconds=60)
        refused = run(folder, CHOSEN)
        assert refused.returncode == 2 and not list(folder.glob("checkpoints/*"))
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"error: hydra.run.dir={folder}: another process is training in it; wait for it")
    finally:
        first.kill()
    assert run(folder, CHOSEN).returncode == 0


def test_same_second_twice(tmp_path: Path) -> None:
    """After the clock was set back by an hour, events stay in the order of their steps."""
    logged = [*CHOSEN, "logger=tensorboard", "callbacks=default", "trainer.log_every_n_steps=1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, logged).returncode == 0
    assert run(parts, logged, "train:9:SIGTERM").returncode == 143
    into = (f"hydra.run.dir={parts}", "resume=auto")
    done = forked("tests/helpers/incidents.py", "nowhere:0:", *SMALL, *logged, *into, CLOCK="-3600")
    assert done.returncode == 0, done.stderr
    assert_same_run(whole, parts)
    steps = {}
    for folder in (whole, parts):
        curves = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
        steps[folder] = [event.step for event in curves.Scalars("train/nelbo")]
        assert len(curves.Images("pictures/samples")) == 2
    assert steps[parts] == steps[whole] == list(range(1, 13))
