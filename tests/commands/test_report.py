"""The arguments of `nelbo report`, and errors of the disk; its pages are tested with the reports themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nelbo.commands import report
from nelbo.finished.run import FinishedRun
from nelbo.surfaces import compare, write
from nelbo.sweeps.report import write as sweep_report


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What runs are opened with, instead of being opened."""
    calls: list[tuple[Any, ...]] = []

    def open_run(path: str, allow: list[str], moved: Any = None, *, key: str) -> SimpleNamespace:
        calls.append((path, allow, moved, key))
        return SimpleNamespace()

    monkeypatch.setattr(FinishedRun, "open", open_run)
    return calls


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """Return the exit status of the command."""
    monkeypatch.setattr(sys, "argv", ["nelbo", *arguments])
    try:
        report.main()
    except SystemExit as ended:
        return ended.code
    return 0


def refuse_to_write(*arguments: object, **options: object) -> Path:
    raise PermissionError(13, "Permission denied", "/there/surface")


def test_moved_data_are_given_to_the_run(
    monkeypatch: pytest.MonkeyPatch, opened: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    monkeypatch.setattr(write, "write_surface", lambda run, limit: tmp_path)
    monkeypatch.setattr(compare, "write_beside", lambda sweep, run, allow, limit: tmp_path)
    monkeypatch.setattr(sweep_report, "write_report", lambda sweep, allow: tmp_path)
    monkeypatch.setattr(sweep_report, "say_best", lambda sweep: "")
    assert call(monkeypatch, "run=one", "data.path=new", "data.root=a=b") == 0
    assert call(monkeypatch, "sweep=many", "with=two", "--data.path=new") == 0
    assert call(monkeypatch, "run=three") == 0
    assert opened == [
        ("one", [], {"path": "new", "root": "a=b"}, "run"),
        ("two", [], {"path": "new"}, "with"),
        ("three", [], None, "run"),
    ]


def test_moved_data_are_of_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, f"sweep={tmp_path}", "data.path=new") == 2
    assert capsys.readouterr().err == "error: data.path=new: goes with run=... and with=... only\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["run=one"], "run=one"), (["sweep=many", "with=two"], "sweep=many"), (["sweep=many"], "sweep=many")],
)
def test_a_directory_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    opened: list[tuple[Any, ...]],
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.setattr(write, "write_surface", refuse_to_write)
    monkeypatch.setattr(compare, "write_beside", refuse_to_write)
    monkeypatch.setattr(sweep_report, "write_report", refuse_to_write)
    assert call(monkeypatch, *arguments) == 2
    line = f"error: {named}: cannot be written: Permission denied (/there/surface)\n"
    assert capsys.readouterr().err == line
