"""Jobs of several processes: which process records, and which jobs need them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from nelbo.errors import Stopped
from nelbo.sweeps.cells.record import cell_lock
from nelbo.sweeps.job import needs_processes, run_cell


def test_ranks_other_than_the_first_neither_lock_nor_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm starts the job of a cell in each of its tasks."""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    config = OmegaConf.create({})
    with cell_lock(tmp_path):  # held by the first rank
        assert run_cell(lambda config: 1.5, config, "train.py", str) == 1.5

        def stopped(config: DictConfig) -> float:
            raise Stopped(signal.SIGUSR2)

        with pytest.raises(SystemExit) as ended:
            run_cell(stopped, config, "train.py", str)
        assert ended.value.code == 0  # the first rank asks Slurm to requeue the job; an error status here would end it
    assert [file.name for file in tmp_path.iterdir()] == ["cell.lock"]


def test_which_jobs_need_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")  # an allocation, in whose shell one process was started
    assert not needs_processes({"devices": 1, "strategy": "auto"}) and not needs_processes({})
    assert needs_processes({"devices": 2, "strategy": "auto"}) and needs_processes({"devices": "auto"})
    assert needs_processes({"devices": 1, "strategy": "ddp"}) and needs_processes({"devices": 1, "num_nodes": 2})
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")  # srun has started the processes
    assert not needs_processes({"devices": 2, "strategy": "ddp"})
