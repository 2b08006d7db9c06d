"""Commands whose output pipe is closed early, as by `| head -1`, end as they would otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nelbo.terminal.streams import ClosedPipeTolerantFile
from tests.helpers.bundles import make_bundle
from tests.helpers.diverging import infinite_loss
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL
from tests.helpers.sweep_directories import scores, write_sweep


def arguments(script: str, smoke_run: Path, folder: Path) -> list[str]:
    if script == "train.py":
        overrides = ["model=mlp_vae", "data=digits", "model.latent_dim=2", "trainer=smoke"]
        return [*overrides, f"hydra.run.dir={smoke_run}", "resume=auto"]
    if script == "scripts/evaluate.py":
        return [f"run={smoke_run}", "metrics=[elbo]", "limit=9"]
    if script == "scripts/draw.py":
        return ["samples", f"run={smoke_run}", f"out={folder / 'samples.png'}"]
    if script == "scripts/data.py":
        return ["list"]
    if script == "scripts/report.py":
        return [f"sweep={write_sweep(folder, [{'overrides': ['seed=1'], 'metrics': scores(1, 2)}])}"]
    assert script == "scripts/replay.py"
    return [f"bundle={make_bundle(folder, infinite_loss)}"]


@pytest.mark.parametrize(
    "script",
    ["train.py", "scripts/evaluate.py", "scripts/draw.py", "scripts/data.py", "scripts/report.py", "scripts/replay.py"],
)
def test_a_command_succeeds_after_its_output_pipe_is_closed(script: str, smoke_run: Path, tmp_path: Path) -> None:
    done = forked("tests/helpers/closed_pipe.py", "1", script, *arguments(script, smoke_run, tmp_path))
    assert done.returncode == 0 and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr


def test_a_run_trains_to_its_end_after_its_output_pipe_is_closed(tmp_path: Path) -> None:
    overrides = [*SMALL, "trainer.max_epochs=2", "callbacks=default", f"hydra.run.dir={tmp_path}"]
    done = forked("tests/helpers/closed_pipe.py", "12", "train.py", *overrides)
    assert done.returncode == 0 and (tmp_path / "metrics.json").exists()


def test_help_piped_to_head_exits_with_status_0() -> None:
    done = forked("tests/helpers/closed_pipe.py", "1", "train.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_bytes_written_to_a_pipe_without_a_reader_are_discarded() -> None:
    read_end, write_end = os.pipe()
    with ClosedPipeTolerantFile(write_end, "wb") as file:
        assert file.write(b"read") == 4 and os.read(read_end, 9) == b"read"
        os.close(read_end)
        assert file.write(b"lost") == 4 and file.write(memoryview(b"lost too")) == 8
