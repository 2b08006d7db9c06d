"""Bit flips in a checkpoint: every flip that changes loaded values is rejected, and an older checkpoint is used."""

from __future__ import annotations

import contextlib
import random
import zipfile
from pathlib import Path

from nelbo.checkpoints.record import read_checkpoint
from nelbo.errors import CheckpointError
from tests.helpers.damage import SMALL_NETS, finished_run
from tests.helpers.interrupted import assert_same_run, differences, run

__all__ = ["finished_run"]
FLIPS = 300


def flipped(content: bytes, place: int, bit: int) -> bytes:
    """Return `content` with one bit flipped."""
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def test_bitflip(finished_run: Path, tmp_path: Path) -> None:
    whole = (finished_run / "checkpoints" / "last.ckpt").read_bytes()
    file = tmp_path / "last.ckpt"
    file.write_bytes(whole)
    undamaged = read_checkpoint(file)
    draw = random.Random(0)
    rejected = 0
    for place in draw.sample(range(len(whole)), FLIPS):
        file.write_bytes(flipped(whole, place, draw.randrange(8)))
        try:
            loaded = read_checkpoint(file)
        except CheckpointError as refused:
            assert "\n" not in str(refused)
            rejected += 1
        else:
            assert not differences(undamaged, loaded), place
    print(f"{rejected} of {FLIPS} rejected, the others changed nothing")
    assert rejected > FLIPS / 2  # the others hit padding


def test_bitflip_in_a_directory_of_the_archive(finished_run: Path, tmp_path: Path) -> None:
    """All bits of a directory entry, few of which are hit by 300 flips; one makes torch silently read nothing."""
    whole = (finished_run / "checkpoints" / "last.ckpt").read_bytes()
    file = tmp_path / "last.ckpt"
    file.write_bytes(whole)
    undamaged = read_checkpoint(file)
    start = whole.rindex(b"PK\x01\x02", 0, whole.index(b"archive/data/1PK\x01\x02"))
    for place in range(start, whole.index(b"PK\x01\x02", start + 1)):
        for bit in range(8):
            file.write_bytes(flipped(whole, place, bit))
            with contextlib.suppress(CheckpointError):
                assert not differences(undamaged, read_checkpoint(file)), (place - start, bit)


def damage(file: Path) -> bytes:
    """Flip a bit in the middle of the largest tensor of a file, where there is no padding."""
    content = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        tensor = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
    damaged = flipped(content, content.index(tensor) + len(tensor) // 2, 0)
    file.write_bytes(damaged)
    return damaged


def test_bitflip_and_the_newest_valid_checkpoint(tmp_path: Path) -> None:
    chosen = [*SMALL_NETS, "trainer.max_epochs=2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, chosen).returncode == 0
    assert run(parts, chosen, "train:9:SIGTERM").returncode == 143
    best, last = (parts / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    intact = best.read_bytes()
    damaged = {last: damage(last), best: damage(best)}

    refused = run(parts, chosen)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"error: {best}: not a readable checkpoint") and f"{last}: not a readable" in line
    assert line.endswith("delete them to start a new run")
    assert {file: file.read_bytes() for file in damaged} == damaged

    best.write_bytes(intact)
    done = run(parts, chosen)
    assert done.returncode == 0, done.stderr
    assert f"resuming from {best}: step 6, 1 epochs completed" in done.stderr
    assert f"skipped in favour of best.ckpt (step 6): {last}: not a readable checkpoint" in done.stderr
    assert "skipped in favour of" in (parts / "train.log").read_text()
    assert_same_run(whole, parts)
