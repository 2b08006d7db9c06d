"""Whoever reads a script's output may leave before its end, as `| head -1` does: it ends as if nobody had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nelbo.terminal.streams import LeavableFile
from tests.helpers.bundles import make_bundle
from tests.helpers.diverging import infinite_loss
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL
from tests.helpers.sweep_directories import scores, write_sweep


def arguments(script: str, smoke_run: Path, folder: Path) -> list[str]:
    if script == "train.py":
        words = ["model=mlp_vae", "data=digits", "model.latent_dim=2", "trainer=smoke"]
        return [*words, f"hydra.run.dir={smoke_run}", "resume=auto"]
    if script == "scripts/report.py":
        return [f"sweep={write_sweep(folder, [{'overrides': ['seed=1'], 'metrics': scores(1, 2)}])}"]
    if script == "scripts/replay.py":
        return [f"bundle={make_bundle(folder, infinite_loss)}"]
    more = {"evaluate": ["metrics=[elbo]", "limit=9"], "draw": [f"out={folder / 'samples.png'}"], "data": []}
    name = Path(script).stem
    return [
        *{"data": ["list"], "draw": ["samples"]}.get(name, []),
        *([f"run={smoke_run}"] if more[name] else []),
        *more[name],
    ]


@pytest.mark.parametrize(
    "script",
    ["train.py", "scripts/evaluate.py", "scripts/draw.py", "scripts/data.py", "scripts/report.py", "scripts/replay.py"],
)
def test_a_script_outlives_the_reader_of_its_output(script: str, smoke_run: Path, tmp_path: Path) -> None:
    done = forked("tests/helpers/closed_pipe.py", "1", script, *arguments(script, smoke_run, tmp_path))
    assert done.returncode == 0 and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr, done.stderr


def test_a_run_trains_to_its_end_when_nobody_reads_any_more(tmp_path: Path) -> None:
    words = [*SMALL, "trainer.max_epochs=2", "callbacks=default", f"hydra.run.dir={tmp_path}"]
    done = forked("tests/helpers/closed_pipe.py", "12", "train.py", *words)
    assert done.returncode == 0 and (tmp_path / "metrics.json").exists()


def test_the_help_piped_to_head_ends_well() -> None:
    done = forked("tests/helpers/closed_pipe.py", "1", "train.py", "--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_written_to_a_pipe_without_a_reader_goes_nowhere() -> None:
    left, end = os.pipe()
    with LeavableFile(end, "wb") as file:
        assert file.write(b"read") == 4 and os.read(left, 9) == b"read"
        os.close(left)
        assert file.write(b"lost") == 4 and file.write(memoryview(b"lost too")) == 8
