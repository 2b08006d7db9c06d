"""A disk that is full, from the start or later, or rejects files: one line, and saved checkpoints still load."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nelbo.checkpoints.record import read_checkpoint
from nelbo.files import PARTIAL
from tests.helpers.damage import SMALL_NETS
from tests.helpers.forks import Done, forked
from tests.helpers.interrupted import SMALL, assert_same_run, run

CHOSEN = [*SMALL_NETS, "trainer.max_epochs=2"]
WATCHED = ["callbacks=default", "logger=tensorboard", "trainer.log_every_n_steps=1"]
UNCHANGED = "the previous checkpoint is unchanged: free some space, then resume with resume=auto"


def limited(folder: Path, incident: str, *overrides: str, **environment: str) -> Done:
    """Run or resume with an incident, such as a limit on the size of files from then on."""
    into = (f"hydra.run.dir={folder}", "resume=auto")
    happened = str(folder.with_name("happened"))
    return forked(
        "tests/helpers/incidents.py", incident, *SMALL, *CHOSEN, *overrides, *into, HAPPENED=happened, **environment
    )


def assert_one_error(done: Done, *fragments: str) -> None:
    """Assert that the run ended with one line of error that contains all fragments."""
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "rror" in line]
    assert len(errors) == 1 and errors[0].startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr and all(fragment in errors[0] for fragment in fragments), errors


@pytest.mark.parametrize("num_bytes", [512, 30_000])  # too few for a config, and too few for a checkpoint
def test_disk_full_from_the_start(tmp_path: Path, num_bytes: int) -> None:
    done = limited(tmp_path / "run", f"start:0:limit-{num_bytes}")
    assert_one_error(done, "cannot be written (File too large); free some space, or give")
    assert "training in" not in done.stderr and not list(tmp_path.rglob("*.ckpt"))
    assert not list(tmp_path.rglob(f"{PARTIAL}*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a finished run with enough space."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, CHOSEN).returncode == 0
    return folder


def test_disk_full(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    assert_one_error(limited(folder, "train:9:limit-20000"), f"{folder}/checkpoints/best.ckpt: cannot", UNCHANGED)
    assert read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"] == 6
    assert not list(tmp_path.rglob(f"{PARTIAL}*")) and not (folder / "metrics.json").exists()
    assert run(folder, CHOSEN).returncode == 0
    assert_same_run(whole, folder)


def test_disk_full_of_curves(tmp_path: Path, whole: Path) -> None:
    """TensorBoard writes in a separate thread."""
    folder = tmp_path / "run"
    done = limited(folder, "train:9:limit-84000", *WATCHED)
    assert_one_error(done, f"hydra.run.dir={folder}: cannot be written (File too large); free some space")
    assert max(file.stat().st_size for file in folder.glob("tensorboard/events*")) == 84_000
    done = limited(folder, "nowhere:0:limit", *WATCHED)
    assert done.returncode == 0, done.stderr


full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, to which every write fails")


@full
def test_disk_full_of_tables(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    done = limited(folder, "validation:2:full", FULL=str(folder / "history.csv"))
    assert_one_error(done, f"hydra.run.dir={folder}: cannot be written (No space left on device)")
    (folder / "history.csv").unlink()
    assert run(folder, CHOSEN).returncode == 0
    # The history lacks its first row, which was deleted with the file.
    metrics = [json.loads((of / "metrics.json").read_text())["test/nelbo"] for of in (whole, folder)]
    assert metrics[0] == metrics[1]


@full
def test_disk_full_of_the_log(tmp_path: Path, whole: Path) -> None:
    """Log lines go to stderr too, so that the run continues without the file."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "train.log").symlink_to("/dev/full")
    done = run(folder, CHOSEN)
    assert done.returncode == 0 and "rror" not in done.stderr and "epoch 2/2" in done.stderr, done.stderr
    assert_same_run(whole, folder)


@pytest.mark.parametrize(
    ("place", "sweep"),
    [("{here}/file/run", False), ("{here}/file/run", True), ("/proc/nelbo/run", False), ("/sys/nelbo/run", False)],
)
def test_disk_full_where_no_directory_can_be_created(tmp_path: Path, place: str, sweep: bool) -> None:
    (tmp_path / "file").touch()
    folder = place.format(here=tmp_path)
    into = ("-m", f"hydra.sweep.dir={folder}", "seed=1,2") if sweep else (f"hydra.run.dir={folder}",)
    done = forked("train.py", *SMALL, *CHOSEN, *into)
    assert_one_error(done, "cannot be written")
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount point of a separate file system of 240 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_disk_full_of_a_real_file_system(small_disk: Path, tmp_path: Path) -> None:
    """A disk that the run itself fills, and that is enlarged afterwards."""
    long = [*SMALL_NETS, "trainer.max_epochs=6", *WATCHED]
    folder = small_disk / "run"
    assert_one_error(run(folder, long), "cannot be written (No space left on device)")
    reached = read_checkpoint(folder / "checkpoints" / "last.ckpt")["global_step"]
    assert 6 <= reached < 36 and not list(small_disk.rglob(f"{PARTIAL}*"))
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    done = run(folder, long)
    assert done.returncode == 0 and f"step {reached}" in done.stderr, done.stderr
    assert run(tmp_path / "whole", long).returncode == 0
    assert_same_run(tmp_path / "whole", folder)
