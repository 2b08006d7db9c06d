"""The packages that pyproject.toml requires, their oldest versions, and the hints that name them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nelbo.messages.targets import PLUGINS
from tests.helpers.forks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
NOT_PINNED = {"dev", "docs", "explore", "export", "hub", "inception", "mlflow", "sweep", "wandb"}
"""Extras whose lower bounds constraints-oldest.txt does not pin."""


def bounds() -> dict[str, str]:
    """Return the lower bound of each package that the core, the tests and the small extras need."""
    texts = [*PROJECT["dependencies"], *(text for name in EXTRAS.keys() - NOT_PINNED for text in EXTRAS[name])]
    requirements = [Requirement(text) for text in texts]
    return {
        canonicalize_name(requirement.name): next(one.version for one in requirement.specifier if one.operator == ">=")
        for requirement in requirements
        if requirement.name != PROJECT["name"]
    }


def pins() -> dict[str, str]:
    """Return the versions in constraints-oldest.txt."""
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_pinned_oldest_versions_are_the_lower_bounds() -> None:
    pinned = pins()
    assert bounds() == {name: pinned.get(name) for name in bounds()}


def test_compromised_releases_of_lightning_are_excluded() -> None:
    (lightning,) = (one for text in PROJECT["dependencies"] if (one := Requirement(text)).name == "pytorch-lightning")
    assert not list(lightning.specifier.filter(["2.6.2", "2.6.3"]))


@pytest.mark.parametrize("package", PLUGINS.values())
def test_hints_for_launchers_and_sweepers_are_requirements_of_the_extra(package: str) -> None:
    assert package in EXTRAS["sweep"]


def test_no_text_tells_to_install_nelbo_from_an_index() -> None:
    """An extra is installed from a checkout, `pip install '.[sweep]'`; errors name the missing package."""
    folders = [ROOT / name for name in ("src", "conf", "docs", "scripts")]
    files = [file for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".md")]
    wrong = re.compile(r"pip install [\"']?nelbo\b")
    assert [file for file in [*files, *Path(ROOT).glob("*.md")] if wrong.search(file.read_text())] == []
