"""The check of a run's directory before Hydra writes its record there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from nelbo.sweeps import callback
from nelbo.sweeps.callback import DirectoryCallback


@pytest.fixture
def begun(tmp_path: Path) -> DictConfig:
    """The settings of a run in whose directory the record has its first file only, which does not name a program."""
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0\n")
    hydra = {"run": {"dir": str(tmp_path)}, "output_subdir": ".hydra", "help": {"app_name": "train"}}
    return OmegaConf.create({"hydra": hydra})


def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    monkeypatch.setenv("WORLD_SIZE", "2")


def test_a_process_waits_for_the_record_that_another_of_its_run_writes(
    begun: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_processes(monkeypatch)
    record = Path(begun.hydra.run.dir) / ".hydra" / "hydra.yaml"
    record.write_text("")
    writer = threading.Timer(0.3, record.write_text, ["hydra:\n  help:\n    app_name: train\n"])
    writer.start()
    DirectoryCallback().on_run_start(begun)
    assert not writer.is_alive()


@pytest.mark.parametrize("processes", [1, 2])
def test_the_record_of_another_program_is_refused(
    processes: int, begun: DictConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if processes == 2:
        two_processes(monkeypatch)
        monkeypatch.setattr(callback, "OTHERS_WRITE_SECONDS", 0.2)
    with pytest.raises(SystemExit) as refused:
        DirectoryCallback().on_run_start(begun)
    assert refused.value.code == 2
    assert "holds .hydra of another program; give another directory" in capsys.readouterr().err
