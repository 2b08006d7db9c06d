"""The temporary files of killed processes are removed at the next start, with a log line."""

from __future__ import annotations

from pathlib import Path

from nelbo.files import PARTIAL
from tests.helpers.interrupted import assert_same_run, run

EPOCHS = ["trainer.max_epochs=2", "logger=tensorboard"]


def test_orphan_sweep(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", EPOCHS).returncode == 0
    assert run(tmp_path / "run", EPOCHS, "save:2:SIGKILL").returncode == -9
    (orphan,) = tmp_path.rglob(f"{PARTIAL}*")
    assert orphan.parent.name == "checkpoints" and orphan.name.startswith(f"{PARTIAL}best.ckpt.")
    (events,) = (tmp_path / "run" / "tensorboard").glob("events.*")
    orphans = [orphan, tmp_path / "run" / f"{PARTIAL}history.csv.1", events.with_name(f"{PARTIAL}{events.name}.1")]
    for file in orphans[1:]:  # as left by a process that was killed at its start
        file.write_bytes(events.read_bytes())
    done = run(tmp_path / "run", EPOCHS)
    assert done.returncode == 0, done.stderr
    for removed in orphans:
        assert f"removed {removed}, which a killed process left half written" in done.stderr
    assert not list(tmp_path.rglob(f"{PARTIAL}*"))
    assert_same_run(tmp_path / "whole", tmp_path / "run")
