"""What is typed behind `run=`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

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


def as_hydra_reads(typed: str) -> object:
    (override,) = OverridesParser.create().parse_overrides(quote_runs([f"run={typed}"]))
    value = override.value()
    return value if isinstance(value, str) else [str(item.text if hasattr(item, "text") else item) for item in value]


@pytest.mark.parametrize("name", CELLS)
def test_any_directory_can_be_typed_as_it_is(home: Path, name: str) -> None:
    assert str(as_hydra_reads(name)) == name


def test_lists_are_split_where_a_path_ends(home: Path) -> None:
    assert as_hydra_reads(f"[{CELLS[1]}, a,{CELLS[2]}]") == [CELLS[1], "a", CELLS[2]]
    assert as_hydra_reads("[nowhere,a]") == ["nowhere", "a"]
    assert as_hydra_reads("[]") == []


def test_patterns_become_what_they_match(home: Path) -> None:
    assert as_hydra_reads("?-*") == list(CELLS[1:3])
    assert as_hydra_reads("[a,0*]") == ["a", CELLS[1]]
    assert str(as_hydra_reads("nothing*")) == "nothing*"


def test_brackets_in_a_pattern_are_part_of_the_name(home: Path) -> None:
    for name in ("v1", "v2"):
        (home / "sweep [v1] (b)" / name / "checkpoints").mkdir(parents=True)
        (home / "sweep [v1] (b)" / name / "checkpoints" / "best.ckpt").touch()
    assert as_hydra_reads("sweep [v1] (b)/*") == ["sweep [v1] (b)/v1", "sweep [v1] (b)/v2"]
    assert as_hydra_reads("*[[]now]*") == "*[[]now]*"


def test_what_is_quoted_or_no_run_stays(home: Path) -> None:
    typed = ["run='a,b'", "run=['a','b']", "limit=3", "metrics=[nll]", "run=", "run=a,a"]
    assert quote_runs(typed) == typed


def test_runs_are_called_by_what_differs() -> None:
    assert names(["outputs/x/first"]) == ["first"]
    assert names(["outputs/x/first", "outputs/y/first"]) == ["x/first", "y/first"]
    assert names(["outputs/x", "outputs/x"]) == ["x (1)", "x (2)"]
