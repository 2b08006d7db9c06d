"""Counts and names in the docs are those of the code."""

from __future__ import annotations

import re

import pytest

from tests.faults import test_bad_config, test_kl_overflow, test_own_checkpoints
from tests.faults import test_resume_exact as resume_exact
from tests.helpers.forks import ROOT
from tests.helpers.hostile import payloads
from tests.helpers.mutants import KINDS

RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()
CHECKPOINTS = {
    folder.name: len(list(folder.glob("*.ckpt"))) for folder in (ROOT / "tests" / "checkpoints").glob("format-*")
}
TWO_PLACES = 2
COUNTS = {
    r"(\d+) configs, 7 of format 1": len(test_own_checkpoints.SHIPPED),
    r"(\d+) of format 1": CHECKPOINTS["format-1"],
    r"(\d+) of format 2": CHECKPOINTS["format-2"],
    r"\| (\d+) configs \| 0 accepted": len(test_bad_config.CASES),
    r"24 \+ (\d+) \(and 4\)": TWO_PLACES * len(resume_exact.SHIPPED),
    r"(\d+) posterior-prior pairs × 2": len(test_kl_overflow.PAIRS),
    r"2,000 files of (\d+) kinds": len(KINDS),
    r"(\d+) targets in configs and in checkpoints": len(payloads(ROOT, ROOT, ROOT)),
}
GROUPS = ("likelihood", "posterior", "prior", "model", "objective", "data", "sweep", "logger")


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
