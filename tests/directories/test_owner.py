"""Ownership of a directory, between processes of one machine and of several machines."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import pytest

from nelbo.directories import owner
from nelbo.directories.owner import DirectoryInUse, Owner, Ownership, living_owner, read_owner
from nelbo.errors import NelboError
from nelbo.running.directory import locked
from tests.helpers.owners import ELSEWHERE, owned_elsewhere


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "WATCH_SECONDS", 1.5)
    monkeypatch.setattr(owner, "POLL_INTERVAL", 0.02)


def test_an_owner_identifies_itself_and_leaves_only_the_lock_file(tmp_path: Path) -> None:
    with Ownership(tmp_path, "sweep") as mine:
        assert living_owner(tmp_path, "sweep") == mine.owner and mine.owner.pid == os.getpid()
        with pytest.raises(DirectoryInUse, match=f"process {os.getpid()} on {mine.owner.host}, since 20"):
            Ownership(tmp_path, "sweep").__enter__()
        assert living_owner(tmp_path, "cell") is None
    assert living_owner(tmp_path, "sweep") is None
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.lock"]


def test_a_dead_owner_on_this_machine_is_replaced_without_waiting(tmp_path: Path) -> None:
    file = owned_elsewhere(tmp_path, "cell")
    file.write_text(json.dumps(dataclasses.asdict(ELSEWHERE) | {"machine": owner.this_machine()}))
    assert living_owner(tmp_path, "cell") is None
    start = time.monotonic()
    with Ownership(tmp_path, "cell"):
        assert time.monotonic() - start < owner.WATCH_SECONDS / 2


def test_a_free_lock_does_not_prove_that_an_owner_on_another_machine_is_dead(tmp_path: Path, short_waits: None) -> None:
    """An owner that touches its file keeps the directory, one that does not loses it.

    A file that cannot be read still counts as an owner.
    """
    file = owned_elsewhere(tmp_path, "cell", seconds_ago=30)
    assert living_owner(tmp_path, "cell") == ELSEWHERE
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(0.05):
            os.utime(file)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(DirectoryInUse, match="process 4711 on node7"):
            Ownership(tmp_path, "cell").__enter__()
    finally:
        stop.set()
        thread.join()
    assert read_owner(file) == ELSEWHERE
    with Ownership(tmp_path, "cell") as mine:
        assert read_owner(file) == mine.owner
    owned_elsewhere(tmp_path, "cell", seconds_ago=2 * owner.ABANDONED_AGE)
    assert living_owner(tmp_path, "cell") is None
    file.write_text("{")
    assert living_owner(tmp_path, "cell") == Owner()


def test_an_owner_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "TOUCH_INTERVAL", 0.02)
    with Ownership(tmp_path, "cell") as mine:
        os.utime(mine.file, (1.0, 1.0))
        deadline = time.monotonic() + 10
        while mine.file.stat().st_mtime == 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_run_that_is_trained_on_another_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owned_elsewhere(tmp_path, "")

    def touch_instead_of_sleep(seconds: float) -> None:
        os.utime(tmp_path / ".owner", (1.0, 1.0))

    monkeypatch.setattr(time, "sleep", touch_instead_of_sleep)
    with pytest.raises(NelboError, match=r"another process is training in it; .*\(process 4711 on node7"):
        locked(tmp_path).__enter__()
