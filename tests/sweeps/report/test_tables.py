"""The tables of report.html: order, the best row, links, and sorting in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nelbo.sweeps.cells.record import CONSOLE, SEARCH
from nelbo.sweeps.report.write import write_report
from tests.helpers.report_page import GRID, Page, finished_cell, read_page
from tests.helpers.sweep_directories import scores, write_sweep

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SORT = """<script>addEventListener("load", () => {
  const head = [...document.querySelectorAll("th")].find(th => th.textContent.startsWith("negative ELBO"));
  const shown = () => [...head.closest("table").tBodies[0].rows].map(row => row.cells[head.cellIndex].textContent);
  const button = head.querySelector("button"), result = [];
  button.focus();
  result.push(document.activeElement === button);
  for (const _ of [1, 2]) { button.click(); result.push(head.getAttribute("aria-sort"), shown()); }
  result.push(document.documentElement.scrollWidth <= innerWidth);
  document.title = "result:" + JSON.stringify(result);
})</script></body>"""


def order_of_cells(page: str) -> list[str]:
    """Return the numbers of the cells in the order of the table of all cells."""
    return re.findall(r'<a href="cell(\d+)-[^"/]*/">', page.partition("<h2>Cells</h2>")[2])


@pytest.mark.parametrize("ended", [True, False])
def test_the_trials_of_a_search_are_sorted_by_score(tmp_path: Path, ended: bool) -> None:
    rates = (5, 2, 9, 3)
    cells = [finished_cell(f"optimizer.lr={k + 1}e-3", metrics=scores(rate, 1)) for k, rate in enumerate(rates)]
    sweep = write_sweep(tmp_path / "sweep", cells)
    assert order_of_cells(write_report(sweep).read_text()) == ["0", "1", "2", "3"]
    if ended:
        (sweep / SEARCH).write_text(json.dumps({"metrics": ["val/nelbo"]}))
    else:
        plan = json.loads((sweep / "sweep.json").read_text())
        (sweep / "sweep.json").write_text(json.dumps(plan | {"command": ["train.py", "-m", "sweep=optuna_elbo"]}))
    page = write_report(sweep).read_text()
    assert order_of_cells(page) == ["1", "3", "0", "2"]
    assert 'aria-sort="ascending"><button type="button">validation negative ELBO</button>' in page
    assert "sorted by validation negative ELBO, the best first" in page


def test_rows_of_the_best_setting_are_marked_and_cells_and_logs_are_linked(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "sweep", [*GRID, {"overrides": ["seed=7"], "state": "failed", "error": "lost"}])
    (sweep / "cell3-00000003" / CONSOLE).write_text("text")
    (sweep / "cell12-0000000c" / CONSOLE).write_text("text")
    page = read_page(sweep)
    text = (sweep / "report.html").read_text()
    assert text.count('<tr class="best">') == 3  # of the means, and two seeds
    assert page.links.count("cell3-00000003/") == 1 and page.links.count("cell12-0000000c/") == 2
    assert page.links.count(f"cell3-00000003/{CONSOLE}") == 1 and page.links.count(f"cell12-0000000c/{CONSOLE}") == 2
    assert page.links[-2:] == ["results.csv", "results.json"]


def test_the_page_has_a_viewport_a_dark_mode_and_a_style_for_print(tmp_path: Path) -> None:
    text = write_report(write_sweep(tmp_path / "sweep", GRID)).read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "@media (prefers-color-scheme: dark)" in text and "@media print" in text
    tags = Page(text).tags
    assert tags.count("main") == 1 and tags.count("footer") == 1
    assert text.count('class="scroll" tabindex="0" role="region"') == tags.count("table") == 2
    assert tags.count("th") == text.count('<th scope="col"') == text.count("</button></th>")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian's package `chromium`)")
def test_a_button_sorts_its_table_in_a_browser(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    cells = [finished_cell(f"objective.beta={k}", metrics=scores(rate, 1)) for k, rate in enumerate((5, 20, 3))]
    cells.append({"overrides": ["objective.beta=3"], "state": "failed", "error": "lost"})
    page = write_report(write_sweep(tmp_path / "sweep", cells))
    page.write_text(page.read_text().replace("</body>", SORT))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-background-networking", "--window-size=500,800", f"--user-data-dir={tmp_path}/profile",
        "--virtual-time-budget=5000", "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    match = re.search(r"<title>result:(.*?)</title>", shown)
    assert match is not None, shown[:500]
    # Cells without a number stay last; nothing but the tables and figures scrolls sideways.
    ascending, descending = ["4", "6", "21", ""], ["21", "6", "4", ""]
    assert json.loads(match[1]) == [True, "ascending", ascending, "descending", descending, True]
