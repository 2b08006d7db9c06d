"""Who may import whom (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "nelbo"
FILES = sorted(PACKAGE.rglob("*.py"))

OPEN = {"errors", "files", "collectives", "randomness"}
# What each room may import of ours; those of OPEN all may. A room is a package or a module beside them.
ROOMS = {
    "__init__": {"loading"},
    "errors": set[str](),
    "collectives": set[str](),
    "distributions": {"distributions"},
    "nets": {"nets"},
    "schedules": set[str](),
    "trace": {"distributions"},
    "heads": {"heads", "nets", "distributions", "schedules"},
    "priors": {"priors", "nets", "distributions"},
    "models": {"models", "trace", "distributions", "heads", "nets", "priors"},
    "objectives": {"objectives", "trace", "distributions", "nets", "schedules"},
    "metrics": {"metrics", "trace", "distributions", "schedules"},
    "evaluation": {"evaluation", "models", "metrics", "pictures", "trace", "distributions"},
    "pictures": {"pictures", "models", "distributions", "trace"},
    "data": {"data"},
    "build": {"constructor_errors"},
    "constructor_errors": set[str](),
    "checks": {"build", "slots", "trainer_checks", "trainer_keys"},
    "slots": set[str](),
    "trainer_checks": set[str](),
    "trainer_keys": set[str](),
    "console": set[str](),
    "messages": {"messages", "build", "checks", "directory", "schedules", "slots", "trainer_checks"},
    "loading": {"build", "models"},
    "files": set[str](),
    "rewind": set[str](),
    "identity": set[str](),
    "owner": set[str](),
    "directory": {"identity", "owner", "rewind"},
    "resume": {"config_changes", "directory", "identity", "loading", "rewind"},
    "comparison": set[str](),
    "report": {"console"},
    "environment": set[str](),
    "streams": set[str](),
    "randomness": set[str](),
    "as_it_was": {"config_changes", "config_places", "directory", "identity"},
    "config_places": {"directory"},
    "config_changes": {"directory", "identity"},
    "training": {
        *("training", "build", "data", "distributions", "loading", "metrics", "models", "nets", "objectives"),
        *("checks", "console", "directory", "environment", "identity", "pictures", "rewind", "trace"),
        "trainer_checks",
    },
    "run": {
        *("as_it_was", "build", "checks", "cli", "data", "directory", "distributions", "environment", "identity"),
        *("loading", "metrics", "models", "objectives", "report", "resume", "training"),
    },
    "cli": {"as_it_was", "directory", "messages", "streams", "sweeps"},
    "sweeps": {
        *("sweeps", "build", "checks", "cli", "comparison", "config_places", "console", "directory", "identity"),
        *("messages", "owner", "report", "rewind", "run"),
    },
    "runs": {
        *("runs", "build", "comparison", "console", "data", "directory", "distributions", "environment", "evaluation"),
        *("loading", "models", "objectives", "pictures", "rewind", "trace", "training"),
    },
}


def imports(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            # `from nelbo import distributions` imports the room of that name.
            names |= {f"nelbo.{alias.name}" for alias in node.names} if node.module == "nelbo" else {str(node.module)}
    return names


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_rule_and_every_rule_a_room() -> None:
    assert {room(file) for file in FILES} == set(ROOMS)
    assert not {name for rule in ROOMS.values() for name in rule} - set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_rooms_import_only_their_neighbours(file: Path) -> None:
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("nelbo.")} - OPEN - {"__version__"}
    assert ours <= ROOMS[room(file)], f"{file} imports {ours - ROOMS[room(file)]}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_hydra_and_lightning_stay_where_they_belong(file: Path) -> None:
    theirs = {name.split(".")[0] for name in imports(file)}
    if theirs & {"hydra", "omegaconf"}:
        assert room(file) in {"run", "runs", "cli", "messages", "sweeps", "as_it_was", "config_places"}
    if theirs & {"pytorch_lightning", "lightning_fabric"}:
        assert room(file) in {"data", "training", "run"}


def test_importing_nelbo_stays_light() -> None:
    heavy = "pytorch_lightning hydra omegaconf matplotlib sklearn tensorboard vector_quantize_pytorch"
    code = f"import sys, nelbo; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_are_short() -> None:
    long = {str(file): lines for file in FILES if (lines := len(file.read_text().splitlines())) > 300}
    assert not long
