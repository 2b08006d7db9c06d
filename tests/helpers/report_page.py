"""Reading the report of a sweep, and cells for sweeps that are written without training."""

from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from nelbo.sweeps.report.write import write_report
from tests.helpers.sweep_directories import scores

VOID_TAGS = {"meta", "img", "br"}
GRID: list[dict[str, Any]] = [
    {
        "overrides": [f"model.latent_dim={d}", f"objective.beta={b}", f"seed={s}"],
        "metrics": scores(d / b, 10 * b / d + s - d / 10),
    }
    for d, b, s in product((2, 4), (0.5, 1, 4), (1, 2))
]
"""Twelve cells: two numbers of latents, three values of beta, two seeds."""


class Page(HTMLParser):
    """A parsed page: its start tags, addresses of pictures, links, and text. Tags must close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.addresses: list[str] = []
        self.links: list[str] = []
        self.descriptions: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.addresses += [value or "" for name, value in attrs if name == "src"]
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.descriptions += [value or "" for name, value in attrs if name == "alt"]
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(sweep: Path) -> Page:
    """Write the report of a sweep and parse its page, which must load no other file and link to existing ones only."""
    page = Page(write_report(sweep).read_text())
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert all((sweep / unquote(link)).exists() for link in page.links)
    return page


def read_rows(sweep: Path) -> list[dict[str, str]]:
    """Read results.csv."""
    with (sweep / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def read_best(sweep: Path) -> Any:
    """Read the entry of the best setting in results.json."""
    return json.loads((sweep / "results.json").read_text())["best"]


def figure_names(sweep: Path) -> set[str]:
    """Return the names of the figures of a report."""
    return {file.stem for file in (sweep / "report").glob("*.png")}


def finished_cell(*overrides: str, **more: Any) -> dict[str, Any]:
    """Return a finished cell for `write_sweep`."""
    return {"overrides": overrides, "metrics": scores(3, 4), **more}


def cells_by_seed(beta: int, validation: float, *nelbos: float) -> list[dict[str, Any]]:
    """Return cells of one setting, one per seed, with given test results and the same validation score."""
    return [
        finished_cell(
            f"objective.beta={beta}", f"seed={seed}", metrics=scores(1, nelbo - 1) | {"val/nelbo": validation}
        )
        for seed, nelbo in enumerate(nelbos)
    ]
