"""The documentation as a site: it is built without a warning, loads nothing from a network, and is legible."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.browser_pages import CHROMIUM, SMALL_TEXT, VIOLATIONS, fetch_axe, open_tab
from tests.helpers.forks import ROOT

pytestmark = pytest.mark.slow

PAGES = ("tutorial.html", "index.html", "reference/priors.html")
SCHEMES = {"light": "default", "dark": "slate"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    script = fetch_axe(tmp_path_factory.mktemp("axe"))
    if script is None:
        pytest.skip("axe-core cannot be fetched: there is no npm, or no registry")
    return script


def test_the_site_has_every_page_and_the_index_of_the_search(site: Path) -> None:
    pages = {file.relative_to(ROOT / "docs").with_suffix(".html") for file in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not (site / page).is_file()} == set()
    assert "amortised" in (site / "search" / "search_index.json").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian's package `chromium`)")
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("page", PAGES)
def test_pages_are_legible(site: Path, axe: str, tmp_path: Path, page: str, width: int, scheme: str) -> None:
    """No text below 12 px, contrast and the other rules of WCAG 2.1 AA that axe-core checks, nothing from outside."""

    async def look() -> None:
        async with open_tab(tmp_path / "profile") as tab:
            await tab.show((site / page).as_uri(), width, scheme)
            assert await tab.evaluate("document.body.dataset.mdColorScheme") == SCHEMES[scheme]
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
            assert await tab.evaluate(SMALL_TEXT) == []
            await tab.evaluate(axe)
            assert await tab.evaluate(VIOLATIONS) == []
            assert tab.requested and all(url.startswith(("file:", "data:", "blob:")) for url in tab.requested)

    asyncio.run(look())
