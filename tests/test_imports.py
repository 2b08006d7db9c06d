"""Which room may import which (docs/architecture.md)."""

from __future__ import annotations

import functools
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.forks import ROOT

rooms = runpy.run_path(str(ROOT / "scripts" / "rooms.py"))
imports = functools.cache(rooms["imports"])
FILES: list[Path] = rooms["files"]()
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

OPEN = {"errors", "files", "numerics"}
"""Rooms that all others may import."""

MATHEMATICS = {"distributions", "heads", "nets", "priors", "schedules", "trace", "models", "objectives", "metrics"}

ROOMS = {
    "__init__": {"checkpoints"},
    "__main__": {"commands"},
    "errors": set[str](),
    "files": set[str](),
    "numerics": set[str](),
    "terminal": set[str](),
    "directories": set[str](),
    "theory": set[str](),
    "schedules": set[str](),
    "distributions": set[str](),
    "nets": set[str](),
    "data": set[str](),
    "config": {"directories", "schedules"},
    "trace": {"distributions"},
    "heads": {"nets", "distributions", "schedules"},
    "priors": {"nets", "distributions"},
    "models": {"trace", "distributions", "heads", "nets", "priors"},
    "objectives": {"trace", "distributions", "nets", "schedules"},
    "metrics": {"trace", "distributions", "schedules"},
    "views": {"theory", "models", "distributions"},
    "pictures": {"views", "models", "distributions", "trace"},
    "evaluation": {"theory", "views", "models", "metrics", "trace", "distributions"},
    "checkpoints": {"config", "models"},
    "composing": {"config", "terminal"},
    "messages": {"composing", "config", "schedules", "terminal"},
    "training": {*MATHEMATICS, "checkpoints", "config", "data", "directories", "pictures", "terminal", "views"},
    "running": {
        *("checkpoints", "composing", "config", "data", "directories", "terminal", "training"),
        *("metrics", "models", "objectives"),
    },
    "finished": {
        *("checkpoints", "config", "data", "directories", "evaluation", "pictures", "running", "terminal", "training"),
        *("views", "models", "objectives", "trace", "distributions"),
    },
    "explorer": {"distributions", "finished", "models", "pictures", "trace", "views"},
    "papers": {"config", "directories", "terminal"},
    "sweeps/cells": {"composing", "config", "directories"},
    "sweeps/report": {"sweeps/cells", "config", "directories", "running", "terminal", "theory"},
    "sweeps": {
        *("sweeps/cells", "sweeps/report", "composing", "config", "directories", "messages", "running", "terminal"),
    },
    "surfaces": {
        *("config", "directories", "evaluation", "finished", "models", "running", "schedules", "sweeps"),
        *("sweeps/cells", "sweeps/report", "views"),
    },
    "commands": {
        *("composing", "config", "data", "explorer", "finished", "messages", "papers", "running", "surfaces"),
        *("sweeps", "sweeps/cells", "sweeps/report", "terminal", "training", "views"),
    },
}
"""What each room may import of ours, beside those of OPEN."""

HYDRA = {
    *("commands", "composing", "finished", "messages", "running", "surfaces"),
    *("sweeps", "sweeps/cells", "sweeps/report"),
}
LIGHTNING = {"checkpoints", "data", "running", "training"}


def name(file: Path) -> str:
    return str(file.relative_to(rooms["PACKAGE"]))


def test_every_room_has_a_rule_and_every_rule_a_room() -> None:
    assert {rooms["room"](file) for file in FILES} == set(ROOMS)
    assert not {other for rule in ROOMS.values() for other in rule} - set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_rooms_import_only_what_their_rule_allows(file: Path) -> None:
    others = {other for module in imports(file) if (other := rooms["room_of_module"](module))}
    room = rooms["room"](file)
    assert others - OPEN - {room} <= ROOMS[room], f"{file} imports {others - OPEN - ROOMS[room]}"


def test_no_rule_and_no_import_leads_round_a_circle() -> None:
    assert not rooms["circles"](rooms["graph"]())
    allowed = {room: (rule | OPEN if room not in OPEN else rule) - {room} for room, rule in ROOMS.items()}
    assert not rooms["circles"](allowed)


def test_a_circle_is_noticed() -> None:
    assert rooms["circles"]({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [("b", "c"), ("c", "b")]


def test_the_table_of_rooms_in_the_docs_is_made_from_the_code() -> None:
    done = subprocess.run([sys.executable, "scripts/rooms.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=name)
def test_hydra_and_lightning_are_imported_only_where_they_belong(file: Path) -> None:
    packages = {module.split(".")[0] for module in imports(file)}
    if packages & {"hydra", "omegaconf"}:
        assert rooms["room"](file) in HYDRA
    if packages & {"pytorch_lightning", "lightning_fabric"}:
        assert rooms["room"](file) in LIGHTNING


def test_importing_nelbo_imports_no_torch() -> None:
    heavy = "torch pytorch_lightning hydra omegaconf numpy matplotlib sklearn tensorboard vector_quantize_pytorch"
    code = f"import sys, nelbo; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_loading_a_model_imports_neither_lightning_nor_hydra() -> None:
    heavy = "pytorch_lightning hydra omegaconf matplotlib sklearn tensorboard vector_quantize_pytorch"
    code = f"import sys, nelbo; nelbo.load; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_and_functions_are_short() -> None:
    long = {name(file): lines for file in FILES if (lines := len(file.read_text().splitlines())) > 300}
    assert not long
    functions = {
        f"{name(file)}::{function}": lines
        for file in FILES
        for function, lines in rooms["function_lengths"](file).items()
        if lines > 60
    }
    assert not functions


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.relative_to(ROOT / "tests")))
def test_no_test_module_imports_another(file: Path) -> None:
    ours = {module for module in imports(file) if module.startswith("tests.")}
    assert {module.split(".")[1] for module in ours} <= {"helpers"}
