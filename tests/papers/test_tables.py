"""The tables of the documentation are those that scripts/results.py makes from docs/results.json."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from nelbo.errors import DataError, NelboError
from nelbo.papers.records import read_records
from nelbo.papers.rows import ROWS
from nelbo.papers.tables import Cells, Column, Table, markdown
from tests.helpers.forks import ROOT, python

results = runpy.run_path(str(ROOT / "scripts" / "results.py"))
RECORDS = read_records(ROOT / "docs" / "results.json")
PAGES = sorted({page for page, _ in results["MADE"].values()})
REQUIRED = {"id", "table", "command", "commit", "modified", "seed", "threads", "machine", "versions", "values"}


def record(name: str, **values: Any) -> dict[str, Any]:
    return {"id": name, "table": "made", "commit": "a" * 40, "values": values}


def of_row(name: str, **changes: Any) -> dict[str, Any]:
    values = {"nll": 87.0, "nll_se": 0.12, "nll_samples": 5000, "nll_images": 10000}
    seconds = {"train_cpu_seconds": 630.0, "evaluation_cpu_seconds": 66.0}
    return {"id": name, "table": "published", "row": name, "commit": "b" * 40, "values": values, **seconds, **changes}


def test_the_pages_are_up_to_date() -> None:
    done = python("scripts/results.py", "--check")
    assert done.returncode == 0, done.stderr


def test_records_have_what_a_reader_needs_and_ids_of_their_own() -> None:
    assert len({one["id"] for one in RECORDS}) == len(RECORDS) > 60
    for one in RECORDS:
        assert one.keys() >= REQUIRED, one["id"]
        assert one["commit"] is None or re.fullmatch(r"[0-9a-f]{7,40}", one["commit"])
        assert one["table"] in results["MADE"] and one["values"] and "python " in one["command"]


def test_every_record_is_in_a_table() -> None:
    shown = {one for table in results["TABLES"] for one in table.ids}
    for one in RECORDS:
        own = next((table for table in results["TABLES"] if table.name == one["table"]), None)
        assert one["id"] in shown or own is None or not own.ids, one["id"]
        assert one["table"] != "published" or one["row"] in ROWS


def test_cells_have_the_decimals_of_the_record_or_of_the_column() -> None:
    cells = Cells(record("a", nelbo=90.0, epochs=1200, levels=[17.1, 0.25], empty=None) | {"label": "model=x"})
    for template, text in (
        ("{nelbo}", "90.00"),
        ("{nelbo:.3f}", "90.000"),
        ("{epochs} of {epochs:,}", "1200 of 1,200"),
        ("{levels:.1f}", "17.1, 0.2"),
        ("`{label}`", "`model=x`"),
        ("{at}", "aaaaaaa"),
        ("{nelbo} ± {nelbo_se}", "–"),
        ("{empty}", "–"),
    ):
        assert cells.cell(template) == text, template
    assert Cells(record("a", nelbo=-523.8) | {"decimals": 1}).cell("{nelbo}") == "-523.8"
    assert Cells(record("a") | {"modified": True}).cell("{at}") == "aaaaaaa, modified"
    assert Cells(record("a") | {"commit": None}).cell("{at}") == "–"


def test_the_lowest_value_of_a_column_is_bold() -> None:
    table = Table("made", [Column("run", "{id}"), Column("NLL", "{nll} ± {nll_se}", best="nll"), Column("x", "{x}")])
    records = [record("a", nll=90.0, nll_se=1.0, x=1), record("b", nll=89.5, nll_se=1.0, x=0), record("c", x=2)]
    assert table.render(records) == markdown(
        ["run", "NLL", "x"], [["a", "90.00 ± 1.00", "1"], ["b", "**89.50** ± 1.00", "0"], ["c", "–", "2"]]
    )
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_a_table_without_its_records_is_an_error() -> None:
    with pytest.raises(DataError, match="the table made has no records"):
        Table("made", [Column("run", "{id}")]).render([])
    with pytest.raises(DataError, match="the table made needs the record b"):
        Table("made", [Column("run", "{id}")], ids=("a", "b")).render([record("a")])


def test_published_rows_show_the_gap_and_those_without_a_record_that_they_were_not_run() -> None:
    name, bits = "burda2016_vae", {"bits_per_dim": 3.0, "nelbo": 6388.0, "nelbo_se": 21.3}
    records = [
        of_row(name),
        of_row(name, id=f"{name} limit=9", modified=True, train_cpu_seconds=None),
        of_row("vdvae_cifar10", values=bits),
    ]
    lines = results["published"](records).splitlines()
    assert lines[2] == (
        "| `burda2016_vae` | 86.76 | 87.00 ± 0.12 | +0.24 | +2.0 | 5,000, 10,000 | 10.5, 1.1 | bbbbbbb |"
    )
    assert lines[3].startswith("| `burda2016_vae limit=9` | 86.76 ") and lines[3].endswith(
        "| –, 1.1 | bbbbbbb, modified |"
    )
    assert "| `vdvae_cifar10` | 2.87 bits/dim | 3.000 ± 0.010 | +0.130 | +13.0 | – |" in lines[-1]
    assert len(lines) == 2 + len(ROWS) + 1 and sum("not run" in line for line in lines) == len(ROWS) - 2
    assert {line.count("|") for line in lines} == {9}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_made_again_from_its_prose_alone(page: str) -> None:
    text = (ROOT / page).read_text()
    empty = re.sub(r"(<!-- results \w+: [^>]*-->\n).*?(\n<!-- end of results -->)", r"\1\2", text, flags=re.DOTALL)
    assert len(empty) < len(text) and results["with_tables"](page, empty, RECORDS) == text
    assert results["with_tables"](page, text, RECORDS) == text


def test_a_page_without_the_markers_of_a_table_or_with_foreign_ones_is_refused() -> None:
    text = (ROOT / "README.md").read_text()
    with pytest.raises(NelboError, match="README.md: lacks the markers of the table expectations"):
        results["with_tables"]("README.md", text.replace("<!-- results expectations", "<!-- "), RECORDS)
    with pytest.raises(NelboError, match="README.md: has the markers of pca"):
        results["with_tables"]("README.md", f"{text}\n<!-- results pca: x -->", RECORDS)


def test_a_figure_that_is_typed_into_a_page_is_noticed_and_written_over(tmp_path: Path) -> None:
    for place in ("docs/results.md", "docs/results.json", "README.md", "scripts/results.py"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    page, script = tmp_path / "docs" / "results.md", str(tmp_path / "scripts" / "results.py")
    before = page.read_text()
    page.write_text(before.replace("| 94.56 |", "| 94.55 |"))
    assert page.read_text() != before
    done = python(script, "--check")
    assert done.returncode == 1 and done.stderr.startswith("docs/results.md: a table of results is not up to date")
    assert python(script, "--write").returncode == 0 and page.read_text() == before
    records = json.loads((tmp_path / "docs" / "results.json").read_text())
    (tmp_path / "docs" / "results.json").write_text(json.dumps([*records, of_row("burda2016_vae")]))
    assert python(script, "--check").returncode == 1
    assert python(script, "--write").returncode == 0 and "| 87.00 ± 0.12 | +0.24 |" in page.read_text()
    assert python(script, "--check").returncode == 0
