"""Writing a report: by the script, by the callback, and of a large sweep."""

from __future__ import annotations

import runpy
import sys
import time
from itertools import product
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nelbo.sweeps.callback import ReportCallback
from tests.helpers.forks import ROOT, forked, python
from tests.helpers.report_page import GRID, finished_cell, read_page
from tests.helpers.sweep_directories import scores, write_sweep


@pytest.mark.slow
def test_two_thousand_cells(tmp_path: Path) -> None:
    cells = [
        finished_cell(
            f"model.latent_dim={d}",
            f"objective.beta={b / 10}",
            f"seed={s}",
            metrics=scores(d / b, b / d + s / 100),
        )
        for d, b, s in product(range(1, 21), range(1, 21), range(5))
    ]
    sweep = write_sweep(tmp_path / "sweep", cells, strips=True, curve=20)
    started = time.perf_counter()
    page = read_page(sweep)
    assert time.perf_counter() - started < 60
    assert (sweep / "report.html").stat().st_size < 20e6 and "2000 of 2000 cells done" in page.text
    assert "100 of 2000 cells are drawn" in page.text and "The best 60 of 400 settings" in page.text


def test_the_script_prints_the_file_and_refuses_directories_of_no_sweep(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", GRID[:2])
    done = python("scripts/report.py", f"sweep={sweep}", "watch=true")
    assert done.returncode == 0 and f"report: {sweep / 'report.html'}" in done.stdout, done.stderr
    done = forked("scripts/report.py", f"sweep={tmp_path}")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["sweep=none"], [], ["sweeep=x"], ["sweep=x", "watch=7"]])
def test_the_script_refuses_bad_arguments(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/report.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "scripts" / "report.py"), run_name="__main__")
    errors = capsys.readouterr().err
    assert ended.value.code == 2 and errors.startswith("error: ") and len(errors.splitlines()) == 1


def test_the_callback_writes_the_report_and_leaves_other_directories_alone(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", GRID[:2])
    (tmp_path / "other").mkdir()
    for folder in (sweep, tmp_path / "other"):
        ReportCallback().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))
    assert (sweep / "report.html").exists() and not any((tmp_path / "other").iterdir())
