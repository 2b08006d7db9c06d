"""Atomic writing: which system calls `atomic` makes, and in which order."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nelbo.files import atomic


def test_atomic_syncs_the_file_then_renames_it_then_syncs_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        mode = os.fstat(descriptor)
        size = f" of {mode.st_size} bytes" if stat.S_ISREG(mode.st_mode) else ""
        calls.append(f"fsync {'directory' if stat.S_ISDIR(mode.st_mode) else 'file'}{size}")
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    with atomic(tmp_path / "file") as stream:
        stream.write(b"content")
    assert calls == ["fsync file of 7 bytes", "rename", "fsync directory"]
    assert (tmp_path / "file").read_bytes() == b"content" and len(list(tmp_path.iterdir())) == 1
