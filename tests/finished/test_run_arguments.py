"""The argument `run=PATH`: paths, lists and patterns as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nelbo.composing.compat import parse_override
from nelbo.finished.arguments import quote_runs
from nelbo.finished.evaluate import names

CELLS = ("a", "0-latent_dim=2,beta=0.5", "1-latent_dim=2,beta=1", "it's (here) [now]")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in CELLS:
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "2-not-a-run").mkdir()
    (tmp_path / "3-results.csv").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def value_of(typed: str) -> object:
    """The value of `run` that Hydra reads."""
    (argument,) = quote_runs([f"run={typed}"])
    value = parse_override(argument).value()
    return value if isinstance(value, str) else [str(path) for path in value]


@pytest.mark.parametrize("name", CELLS)
def test_any_directory_can_be_typed_without_quotes(home: Path, name: str) -> None:
    assert str(value_of(name)) == name


def test_lists_are_split_only_where_an_existing_path_ends(home: Path) -> None:
    assert value_of(f"[{CELLS[1]}, a,{CELLS[2]}]") == [CELLS[1], "a", CELLS[2]]
    assert value_of("[nowhere,a]") == ["nowhere", "a"]
    assert value_of("[]") == []


def test_patterns_are_replaced_by_the_paths_that_they_match(home: Path) -> None:
    assert value_of("?-*") == list(CELLS[1:3])
    assert value_of("[a,0*]") == ["a", CELLS[1]]
    assert str(value_of("nothing*")) == "nothing*"


def test_brackets_in_a_pattern_are_part_of_the_name(home: Path) -> None:
    for name in ("v1", "v2"):
        (home / "sweep [v1] (b)" / name / "checkpoints").mkdir(parents=True)
        (home / "sweep [v1] (b)" / name / "checkpoints" / "best.ckpt").touch()
    assert value_of("sweep [v1] (b)/*") == ["sweep [v1] (b)/v1", "sweep [v1] (b)/v2"]
    assert value_of("*[[]now]*") == "*[[]now]*"


def test_quoted_paths_and_other_arguments_are_unchanged(home: Path) -> None:
    arguments = ["run='a,b'", "run=['a','b']", "limit=3", "metrics=[nll]", "run=", "run=a,a"]
    assert quote_runs(arguments) == arguments


def test_runs_are_named_by_the_parts_of_their_paths_that_differ() -> None:
    assert names(["outputs/x/first"]) == ["first"]
    assert names(["outputs/x/first", "outputs/y/first"]) == ["x/first", "y/first"]
    assert names(["outputs/x", "outputs/x"]) == ["x (1)", "x (2)"]
