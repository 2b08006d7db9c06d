"""What `nelbo train` does after the training of one model for many settings."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from nelbo.commands import train
from nelbo.finished.run import FinishedRun
from nelbo.surfaces import measured, write


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = SimpleNamespace(folder=tmp_path, sha256="", model=object())
    monkeypatch.setattr(FinishedRun, "open", lambda folder, allow: run)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_settings_are_measured_is_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, signum: signal.Signals
) -> None:
    def interrupted(run: object) -> Path:
        os.kill(os.getpid(), signum)
        raise AssertionError("goes on after the signal")

    monkeypatch.setattr(measured, "check_run", lambda run: None)
    monkeypatch.setattr(write, "write_surface", interrupted)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with caplog.at_level(logging.ERROR), pytest.raises(SystemExit) as ended:
            train.write_settings(tmp_path / "a run", ())
    finally:
        signal.signal(signal.SIGINT, previous)
    assert ended.value.code == 128 + signum
    (line,) = caplog.messages
    assert line.startswith(f"stopped by {signum.name}; the run is complete; ")
    assert line.endswith(f" 'run={tmp_path / 'a run'}' writes its settings")


def test_a_model_without_settings_has_no_report_of_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as one of the user's own with a parameter `rates`."""
    written: list[object] = []
    monkeypatch.setattr(write, "write_surface", written.append)
    assert train.is_for_many_settings({"model": {"rates": [0.1, 0.5]}})
    train.write_settings(tmp_path, ())
    assert not written and not list(tmp_path.iterdir())
