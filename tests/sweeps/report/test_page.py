"""The content of report.html and results.csv, for sweeps in every state."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from nelbo.sweeps.report.page import environment
from nelbo.sweeps.report.write import say_best, write_report
from tests.helpers.report_page import (
    GRID,
    Page,
    figure_names,
    finished_cell,
    read_best,
    read_page,
    read_rows,
)
from tests.helpers.sweep_directories import scores, write_sweep

HOSTILE = """</td></p><script>alert("1")</script>&lt;i&gt; 'b' "c"><img src=x onerror=alert(2)>"""
HARMLESS = "harmless"


def test_a_grid_has_a_table_the_best_setting_and_all_figures(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", GRID, strips=True)
    page = read_page(sweep)
    rows = read_rows(sweep)
    swept, metrics = ["model.latent_dim", "objective.beta", "seed"], ["test/nelbo", "test/kl", "test/reconstruction"]
    columns = list(rows[0])
    assert columns[:6] == swept + metrics and columns[-3:] == ["state", "error", "directory"]
    assert columns.index("test/active_units") < columns.index("val/nelbo") < columns.index("train_seconds")
    assert len(rows) == 12 and {row["state"] for row in rows} == {"done"}
    assert [float(row["test/nelbo"]) for row in rows] == [c["metrics"]["test/nelbo"] for c in GRID]
    assert len(page.addresses) == len(figure_names(sweep)) + 6  # a strip for one seed of each setting
    # Rate 4 and distortion 2.5 + (1 or 2) - 0.4.
    best = "Best: model.latent_dim=4, objective.beta=1: test negative ELBO = 7.60 ± 0.71 nats per image, 2 seeds"
    assert best in page.text
    assert "python train.py -m model.latent_dim=4 objective.beta=1 seed=1,2" in page.text
    assert "12 of 12 cells done" in page.text
    entry = read_best(sweep)
    assert entry["cells"] == [rows[8]["directory"], rows[9]["directory"]] and entry["mean"] == pytest.approx(7.6)
    content = json.loads((sweep / "results.json").read_text())
    assert content["axes"]["objective.beta"] == [0.5, 1, 4]
    assert len(content["cells"]) == 12


def test_the_page_names_metrics_in_one_vocabulary(tmp_path: Path) -> None:
    """Rate and distortion are the terms of the rate-distortion plane only."""
    page = write_report(write_sweep(tmp_path / "sweep", GRID)).read_text()
    headings = page.partition("<h2>Cells</h2>")[2].partition("</thead>")[0]
    assert all(
        f">{name}</button></th>" in headings for name in ("negative ELBO", "KL", "reconstruction", "active units")
    )
    after_plane = page.partition("<h3>Metrics over")[2]
    assert "distortion" not in after_plane and "ELBO" in after_plane and "−ELBO" not in page


def hostile_cells(text: str) -> list[dict[str, object]]:
    """Return cells with a text as a value, an error and the name of the data, and cells of other data."""
    return [
        finished_cell(f"data.root='{text}'", "objective.beta=1", metrics=scores(3, 4, data=text)),
        finished_cell("data.root=plain", "objective.beta=1", metrics=scores(3, 4, data_sha256="other", data=text)),
        {"overrides": [f"data.root='{text}'", "objective.beta=2"], "state": "failed", "error": text},
    ]


def test_values_cannot_change_the_markup_of_the_page(tmp_path: Path) -> None:
    """Overrides, errors, names of data and the name of the directory are shown as text, whatever they contain."""
    pages = {}
    for text, name in ((HOSTILE, """a "b" & <i>'c'"""), (HARMLESS, "sweep")):
        pages[text] = read_page(write_sweep(tmp_path / str(len(pages)) / name, hostile_cells(text)))
        assert f"Sweep {name}" in pages[text].text
    hostile, harmless = pages[HOSTILE], pages[HARMLESS]
    assert hostile.tags == harmless.tags and hostile.attributes == harmless.attributes
    command = shlex.quote(f"data.root='{HOSTILE}'")  # with the quotes in it escaped for the shell
    assert hostile.text.count(HOSTILE) + hostile.text.count(command) == harmless.text.count(HARMLESS) > 5


def test_values_cannot_change_the_markup_of_a_page_without_a_result(tmp_path: Path) -> None:
    cells = [{"overrides": [f"data.root={HOSTILE}"], "state": "failed", "error": HOSTILE}]
    page = read_page(write_sweep(tmp_path / "sweep", cells))
    assert page.tags.count("script") == 1 and "img" not in page.tags and page.text.count(HOSTILE) == 2


def test_every_template_escapes() -> None:
    templates = environment()
    assert set(templates.list_templates()) == {"macros.html", "page.js", "report.html", "section.html", "style.css"}
    assert templates.from_string("{{ value }}").render(value=HOSTILE).count("<") == 0


def test_a_sweep_whose_cells_all_failed_shows_the_errors(tmp_path: Path) -> None:
    errors = ["<no memory>", "no disk", "<no memory>"]
    cells = [{"overrides": [f"seed={seed}"], "state": "failed", "error": error} for seed, error in enumerate(errors)]
    page = write_report(write_sweep(tmp_path / "sweep", cells)).read_text()
    message = "No cell has a result: &lt;no memory&gt; (2 cells); no disk (1 cell)."
    assert f'<p class="error">{message}</p>' in page and 'class="answer"' not in page
    assert say_best(tmp_path / "sweep") == ""


def test_a_sweep_that_is_half_finished(tmp_path: Path) -> None:
    error = "optimizer.lr=-1: must be <positive>"
    cells = [
        finished_cell("model.latent_dim=2", "objective.beta=1"),
        {"overrides": ["model.latent_dim=2", "objective.beta=4"], "state": "failed", "error": error},
        {"overrides": ["model.latent_dim=4", "objective.beta=1"], "state": "running"},  # but its process is gone
        {"overrides": ["model.latent_dim=4", "objective.beta=4"], "state": "pending"},
    ]
    sweep = write_sweep(tmp_path / "sweep", cells)
    page = read_page(sweep)
    assert f"cell1-00000001: {error}" in page.text and "1 of 4 cells done; 2 failed, 1 pending" in page.text
    assert [row["state"] for row in read_rows(sweep)] == ["done", "failed", "failed", "pending"]
    assert read_rows(sweep)[1]["error"] == error
    assert "Hatched" in page.text


def test_a_sweep_without_a_result(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [{"overrides": ["seed=1"], "state": "pending"}])
    page = read_page(sweep)
    assert 'class="answer"' not in (sweep / "report.html").read_text()
    assert "No cell has finished yet" in page.text and not page.addresses
    assert read_rows(sweep)[0]["state"] == "pending"


def test_a_page_that_does_not_close_its_tags_is_detected() -> None:
    with pytest.raises(AssertionError):
        Page("<p><b></p></b>")
