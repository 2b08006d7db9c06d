"""`reproduce` through the real commands, on a row that trains for seconds, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nelbo.papers.records import read_records
from nelbo.papers.reproduce import evaluation_arguments, training_arguments
from nelbo.papers.rows import ROWS
from tests.helpers.forks import ROOT, Done, forked

SCRIPT = "tests/helpers/tiny_row.py"
PATHS = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def tiny(folder: Path, *arguments: str) -> Done:
    return forked(
        SCRIPT, "row=tiny", "threads=1", f"run={folder / 'run'}", f"out={folder / 'results.json'}", *arguments
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def done(home: Path) -> Done:
    return tiny(home)


def test_a_row_is_trained_evaluated_compared_and_recorded(done: Done, home: Path) -> None:
    assert done.returncode == 0, done.stderr
    (record,) = read_records(home / "results.json")
    metrics = json.loads((home / "run" / "metrics.json").read_text())
    results = json.loads((home / "run" / "evaluation.json").read_text())
    values = record["values"]
    assert values["nll"] == results["test/nll"] and values["nll_images"] == 297 and values["nll_samples"] == 300
    assert values["nelbo"] == results["test/nelbo"] and values["steps"] == metrics["steps"] == 5
    assert record["id"] == record["row"] == "tiny" and record["table"] == "published"
    assert record["command"] == "python scripts/reproduce.py row=tiny threads=1"
    assert record["threads"] == 1 and record["machine"] and record["evaluation_cpu_seconds"] > 0
    gap = values["nll"] - 20
    for text in (
        "20.00",
        f"{values['nll']:.2f} ± {values['nll_se']:.2f}",
        f"+{gap:.2f}",
        f"+{gap / values['nll_se']:.1f}",
    ):
        assert text in done.stdout, text
    assert "Nobody 2000, A paper, table 1" in done.stdout and "recorded   tiny" in done.stdout


def test_the_same_command_again_only_evaluates_and_a_shorter_evaluation_has_its_own_record(
    done: Done, home: Path
) -> None:
    before = (home / "run" / "metrics.json").read_bytes()
    again = tiny(home, "limit=40", "num_samples=20")
    assert again.returncode == 0 and "this run is complete" in again.stderr, again.stderr
    assert (home / "run" / "metrics.json").read_bytes() == before
    first, second = read_records(home / "results.json")
    assert first["id"] == "tiny" and second["id"] == "tiny limit=40 num_samples=20"
    assert (second["values"]["nll_images"], second["values"]["nll_samples"]) == (40, 20)
    assert second["command"].endswith("row=tiny threads=1 limit=40 num_samples=20")


def test_a_run_that_fails_records_nothing_and_passes_its_status_on(done: Done, home: Path) -> None:
    before = (home / "results.json").read_bytes()
    other = tiny(home, "seed=1")  # another run is in the directory
    assert other.returncode == 2 and "nothing was recorded" in other.stderr.splitlines()[-1]
    assert "resume_changes" in other.stderr and (home / "results.json").read_bytes() == before


def test_damaged_records_are_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("[")
    refused = tiny(tmp_path)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and "repair it" in refused.stderr
    assert not (tmp_path / "run").exists()


LONG = (
    "import dataclasses; from tests.helpers import tiny_row as t\n"
    "more = ('trainer.max_epochs=1000000', 'trainer.check_val_every_n_epoch=20', 'callbacks=default')\n"
    "t.ROWS['long'] = dataclasses.replace(t.TINY, name='long', arguments=t.TINY.arguments + more)\n"
    "t.reproduce.main()"
)
"""The script `tiny_row` with a row of a million epochs, of which every twentieth is reported in a line."""


def until_sigterm(folder: Path, send: Callable[[int, int], None]) -> tuple[int, str]:
    """Reproduce `long`, send SIGTERM once training reports an epoch, and return the exit status and stderr."""
    command = [sys.executable, "-c", LONG, "row=long", f"run={folder / 'run'}", f"out={folder / 'results.json'}"]
    environment = {**os.environ, **PATHS, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        try:
            for line in process.stderr:
                lines.append(line)
                if line.startswith("epoch "):
                    break
            send(process.pid, signal.SIGTERM)
            errors = "".join([*lines, process.stderr.read()])
            return process.wait(timeout=120), errors
        finally:
            process.terminate()  # nothing where it has ended; a second signal ends training at once


def test_a_signal_stops_training_which_the_same_command_continues(tmp_path: Path) -> None:
    """SIGTERM, to the command or to its process group, reaches training once, which saves a checkpoint first."""
    for start, send in (("a new run starts", os.kill), ("resuming from", os.killpg)):
        status, errors = until_sigterm(tmp_path, send)
        assert status == 128 + signal.SIGTERM and start in errors and "stopped by SIGTERM" in errors, errors
        assert "the same command continues it" in errors.splitlines()[-1]
        assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file() and not (tmp_path / "results.json").exists()


def test_the_commands_have_the_protocol_of_the_row() -> None:
    row, folder = ROWS["burda2016_vae_short"], Path("outputs/a b")
    assert training_arguments(row, folder, {"seed": 2, "limit": 9}) == [
        *("experiment=burda2016_vae_short", "seed=2", "hydra.run.dir='outputs/a b'", "resume=auto"),
    ]
    assert evaluation_arguments(row, folder, {"seed": 2, "limit": 9, "threads": 1}) == [
        *("run=outputs/a b", "metrics=[elbo,nll]", "num_samples=5000", "limit=9", "threads=1"),
    ]
    assert evaluation_arguments(ROWS["vdvae_cifar10"], folder, {}) == ["run=outputs/a b", "metrics=[elbo]"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "row=... is missing; usage: python scripts/reproduce.py list | row=NAME"),
        (["row=burda2016_vea"], "row=burda2016_vea: there is no such row; did you mean row=burda2016_vae"),
        (["row=xyz"], "row=xyz: there is no such row; python scripts/reproduce.py list prints all"),
        (["ladder2016"], "ladder2016: unknown argument; did you mean row=ladder2016"),
        (["rows=ladder2016"], "rows=ladder2016: unknown argument; did you mean row=ladder2016"),
        (["row=ladder2016", "limit=0"], "limit=0: must be a whole number of at least 2"),
        (["row=ladder2016", "seed=-1"], "seed=-1: must be a whole number of at least 0"),
        (["row=vdvae_cifar10", "num_samples=9"], "num_samples=9: vdvae_cifar10 is compared by its ELBO"),
    ],
)
def test_wrong_arguments_are_one_line_with_a_hint(arguments: list[str], message: str) -> None:
    refused = forked("scripts/reproduce.py", *arguments)
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and not refused.stdout
    assert refused.stderr.startswith("error: ") and message in refused.stderr


def test_the_list_has_every_row_with_its_protocol_and_our_figure(done: Done, home: Path) -> None:
    listed = forked("scripts/reproduce.py", "list", f"out={home / 'results.json'}")
    assert listed.returncode == 0, listed.stderr
    for name, row in ROWS.items():
        (line,) = [line for line in listed.stdout.splitlines() if f" {name} " in line]
        assert f"{row.published:.2f}" in line and row.protocol in line and ("GPU" in line) == row.needs_gpu
    without = forked("scripts/reproduce.py", "list", f"out={home / 'missing.json'}")
    assert without.returncode == 0 and not (home / "missing.json").exists()
    (record,) = [one for one in read_records(home / "results.json") if one["id"] == "tiny"]
    listed = forked(SCRIPT, "list", f"out={home / 'results.json'}")
    assert f"{record['values']['nll']:.2f} ± " in listed.stdout
