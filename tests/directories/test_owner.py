"""Who owns a directory: as far as locks reach, and beyond."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from pathlib import Path

import pytest

from nelbo.directories import owner
from nelbo.directories.owner import Owned, Owner, Ownership, living_owner, read_owner
from nelbo.errors import NelboError
from nelbo.running.directory import locked
from tests.helpers.owners import ELSEWHERE, owned_elsewhere


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "SILENCE", 1.5)
    monkeypatch.setattr(owner, "SECONDS_BETWEEN_LOOKS", 0.02)


def test_an_owner_says_who_it_is_and_leaves_nothing_but_the_lock(tmp_path: Path) -> None:
    with Ownership(tmp_path, "sweep") as mine:
        assert living_owner(tmp_path, "sweep") == mine.owner and mine.owner.pid == os.getpid()
        with pytest.raises(Owned, match=f"process {os.getpid()} on {mine.owner.host}, since 20"):
            Ownership(tmp_path, "sweep").__enter__()
        assert living_owner(tmp_path, "cell") is None
    assert living_owner(tmp_path, "sweep") is None
    assert [file.name for file in tmp_path.iterdir()] == ["sweep.lock"]


def test_a_dead_owner_of_this_machine_is_replaced_at_once(tmp_path: Path) -> None:
    file = owned_elsewhere(tmp_path, "cell")
    file.write_text(json.dumps(dataclasses.asdict(ELSEWHERE) | {"machine": owner.this_machine()}))
    assert living_owner(tmp_path, "cell") is None
    began = time.monotonic()
    with Ownership(tmp_path, "cell"):
        assert time.monotonic() - began < owner.SILENCE / 2


def test_a_free_lock_of_another_machine_is_not_taken_for_death(tmp_path: Path, quick: None) -> None:
    """Whoever touches its file keeps the directory; whoever is silent loses it; one that cannot be read is somebody."""
    file = owned_elsewhere(tmp_path, "cell", seconds_ago=30)
    assert living_owner(tmp_path, "cell") == ELSEWHERE
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(0.05):
            os.utime(file)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(Owned, match="process 4711 on node7"):
            Ownership(tmp_path, "cell").__enter__()
    finally:
        ended.set()
        thread.join()
    assert read_owner(file) == ELSEWHERE
    with Ownership(tmp_path, "cell") as mine:
        assert read_owner(file) == mine.owner
    owned_elsewhere(tmp_path, "cell", seconds_ago=2 * owner.UNHEARD)
    assert living_owner(tmp_path, "cell") is None
    file.write_text("{")
    assert living_owner(tmp_path, "cell") == Owner()


def test_an_owner_touches_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "BEAT", 0.02)
    with Ownership(tmp_path, "cell") as mine:
        os.utime(mine.file, (1.0, 1.0))
        deadline = time.monotonic() + 10
        while mine.file.stat().st_mtime == 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_run_that_another_machine_trains_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owned_elsewhere(tmp_path, "")

    def touched(seconds: float) -> None:
        os.utime(tmp_path / ".owner", (1.0, 1.0))

    monkeypatch.setattr(time, "sleep", touched)
    with pytest.raises(NelboError, match=r"another process is training in it; .*\(process 4711 on node7"):
        locked(tmp_path).__enter__()
