"""Consoles, tables and the progress bar: names are printed literally and in full, at any width."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from nelbo.finished import score_table as tables
from nelbo.finished.compare import Cell, Comparison
from nelbo.running.scores import score_table
from nelbo.sweeps.live import LiveTable
from nelbo.terminal import console as console_module
from nelbo.terminal.console import make_console, print_side_by_side, print_table
from nelbo.training import VAEModule
from nelbo.training.callbacks import ProgressBar
from nelbo.training.callbacks.progress import epoch_line
from tests.helpers.forks import ROOT, forked
from tests.helpers.interrupted import SMALL
from tests.helpers.sweep_directories import scores, write_sweep

NAMES = ("outputs/run [v1]", "[/b]", "[red]:smile:")
RUNS = [f"multirun/first/model.latent_dim={dim},objective.beta=4,seed=1-0a1b2c3d" for dim in (2, 8, 32)]
ROWS = [
    ["test/index_code_mutual_information", *["0.0307 ± 0.0420\n(-0.000304 ± 0.00162)"] * 3],
    ["test/total_correlation_samples", "1", "1", "1"],
]


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, markup=False, emoji=False)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_consoles_are_created_in_one_module_only() -> None:
    """A console created elsewhere would interpret brackets in names as markup."""
    for file in (*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")):
        text = file.read_text()
        if file != Path(console_module.__file__):
            assert not re.search(r"\bConsole\(|import .*\bConsole\b|get_console|rich\.print", text), file
        for column in re.findall(r"\bTextColumn\([^)]*\)", text):
            assert "markup=False" in column, file


def test_brackets_in_names_are_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    table = Table("name", title=NAMES[0])
    for name in NAMES:
        table.add_row(name)
        console.print(name)
    print_table(table, console)
    print_side_by_side(NAMES[1], NAMES, [["[b]key[/b]", *NAMES]], console)
    output = capsys.readouterr().out
    assert output.count(NAMES[0]) == 5 and output.count("[red]:smile:") == 4 and output.count("[/b]") == 6
    assert "[b]key[/b]" in output


def test_the_live_table_of_a_sweep_prints_errors_literally(tmp_path: Path) -> None:
    error = "allow it with 'resume_changes=[optimizer.lr]' [/b]"
    cells = [{"overrides": ["seed=1"], "state": "failed", "error": error}]
    write_sweep(tmp_path, [*cells, {"overrides": ["seed=2"], "metrics": scores(1, 2)}])
    console = terminal(200)
    table = LiveTable(tmp_path)
    assert not table.live  # standard error is not a terminal in this test
    console.print(table.render())
    assert error in "\n".join(printed(console))


def test_a_run_in_a_directory_with_brackets_prints_its_path(tmp_path: Path) -> None:
    for name in ("run [v1]", "[/b]"):
        folder = tmp_path / name
        done = forked("train.py", *SMALL, "trainer=smoke", f"hydra.run.dir='{folder}'")
        assert done.returncode == 0, done.stderr
        assert f"{name}/checkpoints/best.ckpt" in done.stdout, done.stdout
        done = forked("scripts/evaluate.py", f"run={folder}", "limit=5", "num_samples=2", "metrics=nll")
        assert done.returncode == 0 and f"{name}/evaluation.json" in done.stdout, done.stderr


@pytest.mark.parametrize("width", [64, 80, 120])
def test_tables_show_names_in_full(width: int) -> None:
    console = terminal(width)
    print_side_by_side("values; differences to the first", RUNS, ROWS, console)
    lines = printed(console)
    assert not [line for line in lines if "…" in line]
    for name in (*RUNS, *(row[0] for row in ROWS)):
        assert any(name in line for line in lines), name
    assert sum("(-0.000304 ± 0.00162)" in line for line in lines) >= 1
    assert sum(line.count("(-0.000304 ± 0.00162)") for line in lines) == 3
    framed = [line for line in lines if line[:1] in "┏┃┡│├└"]
    assert framed and max(map(len, framed)) <= width


def test_a_pipe_receives_one_table_of_full_width(capsys: pytest.CaptureFixture[str]) -> None:
    print_side_by_side("values", RUNS, ROWS, make_console())
    output = capsys.readouterr().out
    (header,) = [line for line in output.splitlines() if line.startswith("┃")]
    assert all(run in header for run in RUNS) and "…" not in output and "[1]" not in output


def test_an_evaluation_fits_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {"index_code_mutual_information": -0.000578, "index_code_mutual_information_se": 0.00151, "a_count": 60}
    measured = SimpleNamespace(values=values, warnings=[])
    subject = SimpleNamespace(name=RUNS[0], images=range(10000), split="test", data={"data": "d", "protocol": "raw"})
    console = terminal(80)
    monkeypatch.setattr(tables, "make_console", lambda: console)
    tables.print_results(
        SimpleNamespace(  # type: ignore[arg-type]
            findings={"total_correlation": measured},
            subject=subject,
            run=SimpleNamespace(setting={}),
            results=SimpleNamespace(folder=tmp_path),
            left_out=[],
            pictures=[],
        )
    )
    text = "\n".join(printed(console))
    assert "…" not in text and RUNS[0] in text and "│   index_code_mutual_information │" in text
    assert "± 0.00151" in text and "│ total_correlation " in text
    assert max(len(line) for line in printed(console) if line[:1] in "┏┃┡│├└") <= 80


def bar_at(width: int, terms: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines of the progress bar in the second of twelve epochs, on a terminal `width` columns wide."""
    bar = ProgressBar()
    bar._console_kwargs |= {"file": io.StringIO(), "width": width, "force_terminal": True, "color_system": None}
    state = SimpleNamespace(fn="fit")
    trainer = SimpleNamespace(
        progress_bar_callback=bar,
        state=state,
        sanity_checking=False,
        training=True,
        max_epochs=12,
        max_steps=-1,
        current_epoch=1,
        num_training_batches=196,
    )
    bar._trainer = trainer  # type: ignore[assignment]
    module = VAEModule.__new__(VAEModule)
    module.__dict__["terms"] = terms
    bar._init_progress(trainer)  # type: ignore[arg-type]
    bar.on_train_epoch_start(trainer, module)  # type: ignore[arg-type]
    bar._update(bar.train_progress_bar_id, 39)
    bar._update_metrics(trainer, module)  # type: ignore[arg-type]
    assert bar.progress is not None
    console = terminal(width)
    console.print(bar.progress.get_renderable())
    bar._stop_progress()
    return [line.rstrip() for line in printed(console)]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_progress_bar_is_one_line_that_counts_epochs_from_1(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = bar_at(width, {"nelbo": -128.6321, "kl": 28.153}, monkeypatch)
    assert line.startswith("epoch 2/12 ") and " 39/196 " in line and len(line) <= width
    assert line.endswith("nelbo -128.6  kl 28.15")
    assert ("━" in line) == (width > 60)


def test_the_progress_bar_omits_terms_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = {"reconstruction": 512.345, "total_correlation": 0.001234}
    (wide,) = bar_at(120, terms, monkeypatch)
    assert wide.endswith("reconstruction 512.3  total_correlation 0.001234")
    (narrow,) = bar_at(60, terms, monkeypatch)
    assert narrow.endswith("reconstruction 512.3")


@pytest.mark.skipif(not shutil.which("script"), reason="needs `script` of util-linux, which creates a terminal")
def test_progress_bar_and_summary_lines_count_epochs_alike_in_a_terminal(tmp_path: Path) -> None:
    overrides = ["model=mlp_vae", "data=digits", "logger=none", "trainer.max_epochs=2", f"hydra.run.dir={tmp_path}"]
    only_bar = ["callbacks=none", "+callbacks.progress={_target_:nelbo.training.callbacks.ProgressBar}"]
    run = shlex.join([sys.executable, "train.py", *overrides, *only_bar])
    command = ["script", "-qec", f"stty cols 80 rows 24; {run}", "/dev/null"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout)
    assert "epoch 1/2 " in shown and "Epoch 0" not in shown and re.search(r"epoch 2/2 val  .*nelbo=", shown)
    assert re.search(r"epoch 2/2 val  .*reconstruction=-?\d+\.\d+", shown) and re.search(
        r"images/s=\d+", shown
    )  # not wrapped


def test_lines_of_epochs_fit_a_terminal_of_80_columns() -> None:
    values = {"val/nelbo": 103.123456, "val/reconstruction": 80.1234567, "val/kl": 23.0012345}
    values |= {"val/bits_per_dim": 0.1898765, "val/active_units": 24.0}
    full = epoch_line("epoch 9/20", values, "images/s=41234", 1000)
    assert full == "epoch 9/20  " + "  ".join(f"{k}={v:.6g}" for k, v in values.items()) + "  images/s=41234"
    for head in ("epoch 9/20", "epoch 1000/1000, step 123456"):
        line = epoch_line(head, values, "images/s=41234", 80)
        assert len(line) <= 80 and line.startswith(f"{head} val  nelbo=103.1  ") and line.endswith("  images/s=41234")
        assert "  kl=23" in line
    assert "  reconstruction=80.12  kl=23  " in epoch_line("epoch 9/20", values, "images/s=41234", 80)


def test_a_comparison_shows_only_what_differs(capsys: pytest.CaptureFixture[str]) -> None:
    rows: dict[str, list[Cell | None]] = {
        "test/active_units": [Cell(8.0), Cell(8.0, difference=0.0)],
        "test/nelbo": [Cell(12.0, 0.5), Cell(13.0, 0.5, 1.0, 0.1)],
        "test/kl": [Cell(3.0, 0.5), Cell(3.0, 0.5, 0.0, 0.2)],  # the same mean of other values
        "test/rate": [Cell(3.0), None],
    }
    tables.print_comparison(Comparison(["a", "b"], rows), None)
    shown = capsys.readouterr().out
    table, _, same = shown.partition("same       in all runs: ")
    assert "active_units" not in table and same.strip() == "test/active_units"
    assert all(name in table for name in ("negative ELBO", "test/kl", "KL (rate)"))


@pytest.mark.parametrize(
    ("basis", "unit"),
    [("probabilities", "bits/dim"), ("uniform dequantisation", "bits/dim of dequantised pixels")],
)
def test_bits_per_dimension_have_their_unit(basis: str, unit: str) -> None:
    console = terminal(100)
    metrics = {"data": "mnist", "protocol": "raw", "test/bits_per_dim": 1.25, "bits_per_dim_by": basis}
    console.print(score_table(metrics))
    (line,) = [line for line in printed(console) if "1.2500" in line]
    assert [part.strip() for part in line.strip("│ ").split("│")] == ["negative ELBO", "1.2500", unit]
