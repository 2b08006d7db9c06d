"""Who may import whom (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "nelbo"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may import of ours; `errors` and `files` are open to all.
ROOMS = {
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
    "build": set[str](),
    "checks": {"build", "slots"},
    "slots": set[str](),
    "console": set[str](),
    "messages": {"messages", "build", "checks", "directory"},
    "loading": {"build", "models"},
    "files": set[str](),
    "rewind": set[str](),
    "identity": set[str](),
    "directory": {"identity", "rewind"},
    "resume": {"directory", "identity", "loading", "rewind"},
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_rooms_import_only_their_neighbours(file: Path) -> None:
    ours = {name.split(".")[1] for name in imports(file) if name.startswith("nelbo.")} - {"errors", "files"}
    assert ours <= ROOMS.get(room(file), ours), f"{file} imports {ours - ROOMS[room(file)]}"
    assert "runs" not in ours or room(file) == "runs", f"{file} imports what only scripts may"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_hydra_and_lightning_stay_where_they_belong(file: Path) -> None:
    theirs = {name.split(".")[0] for name in imports(file)}
    if theirs & {"hydra", "omegaconf"}:
        assert room(file) in {"run", "runs", "cli", "messages", "sweeps"}
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
