"""Examples in docstrings do what they show."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.helpers.forks import ROOT

SOURCE = ROOT / "src"
FILES = [file for file in sorted((SOURCE / "nelbo").rglob("*.py")) if ">>> " in file.read_text()]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_examples_in_docstrings_work(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # checkpoints that examples read
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
