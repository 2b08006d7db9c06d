"""What a sweep does when its launcher ends or is interrupted, without training."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nelbo.sweeps.cells.record import Plan, read_cells
from nelbo.sweeps.sweep import Sweep
from tests.helpers.owners import owned_elsewhere
from tests.helpers.sweep_directories import write_sweep


def test_a_cell_without_a_recorded_end_has_failed_once_its_launcher_returns(tmp_path: Path) -> None:
    """Such as a cell whose node went down: its owner file is recent, but the scheduler knows that the job is over."""
    write_sweep(tmp_path, [{"overrides": [f"seed={seed}"], "state": "running"} for seed in (1, 2)])
    ours, theirs = read_cells(tmp_path)
    for folder in (ours.folder, theirs.folder):
        owned_elsewhere(folder, "cell")
    sweep = Sweep(OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}}), None, None, [], [])  # type: ignore[arg-type]
    sweep.plan = Plan.read(tmp_path)
    sweep.close_records({ours.identity: None, theirs.identity: theirs.record["started"]})
    assert [cell.state for cell in sweep.cells()] == ["failed", "running"]
    assert "without recording an error" in sweep.cells()[0].error


def test_a_signal_stops_the_sweep_even_if_another_library_replaces_its_exception(tmp_path: Path) -> None:
    """Code that composes a config may raise another exception in place of `Stopped`."""

    class Interrupted:
        def launch(self, jobs: object, initial_job_idx: int) -> None:
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException:
                raise AttributeError("half composed") from None

    write_sweep(tmp_path, [{"overrides": ["seed=1"], "state": "pending"}])
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with Sweep(config, None, Interrupted(), [], []) as sweep, pytest.raises(SystemExit) as ended:  # type: ignore[arg-type]
        sweep.launch([["seed=1"]])
    assert ended.value.code == 128 + signal.SIGTERM
