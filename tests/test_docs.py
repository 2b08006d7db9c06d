"""Counts and names in the docs are those of the code."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from torch.distributions import StudentT

from nelbo.heads import Likelihood
from tests.helpers.bad_configs import CASES
from tests.helpers.forks import ROOT
from tests.helpers.hostile import payloads
from tests.helpers.mutants import KINDS
from tests.helpers.pages import blocks
from tests.helpers.shipped import CHECKPOINT_OPTIONS, PAIRS, RESUME_OPTIONS

RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
CHECKPOINTS = {
    folder.name: len(list(folder.glob("*.ckpt"))) for folder in (ROOT / "tests" / "checkpoints").glob("format-*")
}
TWO_PLACES = 2
COUNTS = {
    r"(\d+) configs, 7 of format 1": len(CHECKPOINT_OPTIONS),
    r"(\d+) of format 1": CHECKPOINTS["format-1"],
    r"(\d+) of format 2": CHECKPOINTS["format-2"],
    r"\| (\d+) configs \| 0 accepted": len(CASES),
    r"24 \+ (\d+) \(and 4\)": TWO_PLACES * len(RESUME_OPTIONS),
    r"(\d+) posterior-prior pairs × 2": len(PAIRS),
    r"2,000 files of (\d+) kinds": len(KINDS),
    r"(\d+) targets in configs and in checkpoints": len(payloads(ROOT, ROOT, ROOT)),
}
ARCHITECTURE, PACKAGE = "architecture.md", ROOT / "src" / "nelbo"
NEW_PART = "student"
"""The part that the architecture page adds as an example; its files do not exist."""

GROUPS = (
    *("likelihood", "posterior", "prior", "model", "objective", "data", "sweep", "logger"),
    *("hydra/launcher", "hydra/sweeper"),
)


@pytest.mark.parametrize("claim", COUNTS)
def test_counts_of_the_reliability_page_are_those_of_the_tests(claim: str) -> None:
    match = re.search(claim, RELIABILITY)
    assert match, f"docs/reliability.md no longer says {claim}"
    assert int(match[1]) == COUNTS[claim]


def test_every_check_has_a_row_and_every_row_a_check() -> None:
    rows = {re.sub(r"\W+", "_", name) for name in re.findall(r"^\| \*\*([^*]+)\*\*", RELIABILITY, re.MULTILINE)}
    checks = {file.stem.removeprefix("test_") for file in (ROOT / "tests" / "faults").glob("test_*.py")}
    aside = {"read_only": "read_only_data", "own_checkpoints": "old_checkpoints", "sigterm": "sigterm_sweep"}
    named = {aside.get(row, row) for row in rows} | rows
    assert checks - named == {"soak"}, "each check of tests/faults has a row in docs/reliability.md"
    assert rows - checks - set(aside) == set()


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_of_a_group_is_named_in_the_readme(group: str) -> None:
    readme = (ROOT / "README.md").read_text()
    row = next(line for line in readme.splitlines() if re.search(rf"\| .*`{group}`", line))
    names = {name for text in re.findall(r"`([^`]+)`", row) for name in re.split(r"[=, ]+", text)}
    endings = tuple(name for name in names if name.startswith("_"))  # `gaussian_fixed`, `_per_pixel`
    options = {file.stem for file in (ROOT / "conf" / group).glob("*.yaml")} - {"none"}
    assert {option for option in options - names if not option.endswith(endings)} == set()


def paths_of(tree: str) -> list[Path]:
    """Return the paths of a block that shows a tree: a path per line, indented below its folder."""
    paths, parents = [], list[str]()
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], line.split()[0]]
        paths.append(ROOT.joinpath(*parents))
    return paths


def test_the_trees_of_the_architecture_page_name_existing_files_and_every_room() -> None:
    repository, package = map(paths_of, blocks(ARCHITECTURE, "text"))
    assert [path for path in [*repository, *package] if not path.exists()] == []
    rooms = {path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - set(package) == {PACKAGE / "__main__.py"}


def test_files_that_the_architecture_page_names_exist() -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs" / ARCHITECTURE).read_text(), flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"`([\w./-]+\.(?:py|md|yaml))(?:::(\w+))?`", text)
    assert len(named) > 50
    for name, definition in named:
        if NEW_PART in name:
            continue
        places = [ROOT / name, PACKAGE / name]
        if "/" not in name:
            places += [file for folder in ("src", "conf", "tests") for file in (ROOT / folder).rglob(name)]
        files = [place for place in places if place.is_file()]
        assert files, f"docs/architecture.md names {name}, which does not exist"
        assert any(definition in file.read_text() for file in files), f"{name} has no {definition}"


def test_the_likelihood_that_the_architecture_page_adds_works(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,), (config,) = blocks(ARCHITECTURE, "python"), blocks(ARCHITECTURE, "yaml")
    module = types.ModuleType(NEW_PART)
    monkeypatch.setitem(sys.modules, NEW_PART, module)
    exec(compile(code, NEW_PART, "exec"), vars(module))
    options = yaml.safe_load(config)
    assert options.pop("_target_") == "nelbo.heads.Student" and options.pop("_partial_") is True
    likelihood = module.Student((8,), (1, 4, 4), **options)
    assert isinstance(likelihood, Likelihood)
    x = torch.rand(100, 1, 4, 4)
    likelihood.initialize(x)
    px = likelihood(torch.zeros(3, 5, 8))
    scale = px.base_dist.scale
    torch.testing.assert_close(scale, torch.full_like(scale, (x - x.mean(0)).square().mean().sqrt()), rtol=0.01, atol=0)
    expected = StudentT(options["freedom"], x.mean(0), scale).log_prob(x[:5]).sum((-3, -2, -1))
    torch.testing.assert_close(px.log_prob(x[:5]), expected.expand(3, 5))


def heading_anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_links_between_pages_lead_to_existing_headings(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            assert anchor in heading_anchors(file), f"{page.name} links to {target}#{anchor}, which does not exist"


PAGES = [file for file in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")] if file.is_file()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_prose_has_at_most_a_hundred_characters_a_line(page: Path) -> None:
    """Tables, code and pictures may be wider."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    wide = [line for line in text.splitlines() if len(line) > 100 and not line.startswith(("|", "    ", "!["))]
    assert not wide
