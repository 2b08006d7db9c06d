"""Failed jobs of a sweep do not affect the others, and the same command runs only the failed ones again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.sweeps import SMALL, records, results, sweep

SIX = "model.latent_dim=2,3,4,5,6,7"


@pytest.mark.parametrize("launcher", ["local", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_sweep_failure(tmp_path: Path, launcher: str) -> None:
    """An exception, a `sys.exit` and a SIGKILL in 3 of 6 jobs."""
    faults, folder = tmp_path / "faults", tmp_path / "sweep"
    faults.touch()
    overrides = (*SMALL, SIX, f"hydra/launcher={launcher}")
    done = sweep(folder, *overrides, script="tests/helpers/faulty.py", FAULTS=str(faults))
    assert done.returncode == 2, done.stderr
    summary = done.stderr[done.stderr.rindex("failed latent_dim=2") :]
    assert "error: RuntimeError: out of luck" in summary and "error: exited with status 7" in summary
    assert ("killed by SIGKILL" if launcher == "local" else "ended without recording an error") in summary
    assert "error: 3 of 6 cells are not done" in summary and f"hydra.sweep.dir={folder}" in summary
    assert set(results(folder)) == {f"latent_dim={n}" for n in (5, 6, 7)}
    for latents, message in ((2, "RuntimeError: out of luck"), (3, "exited with status 7")):
        (log,) = folder.glob(f"latent_dim={latents}-*/faulty.log")
        assert message in log.read_text()

    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}
    faults.unlink()
    again = sweep(folder, *overrides, script="tests/helpers/faulty.py", FAULTS=str(faults))
    assert again.returncode == 0, again.stderr
    assert re.search(r"6 cells, 3 to run", again.stderr) and len(results(folder)) == 6
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert {record["state"] for record in records(folder).values()} == {"done"}
