"""An environment in which nelbo is installed as a user installs it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.forks import ROOT


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and a folder outside the repository to work in.

    Args:
        environment: its folder.
        home: where commands run.
    """

    environment: Path
    home: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, in `home`."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        path = f"{self.environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=self.home,
            env={**kept, "PATH": path, **variables},
            capture_output=True,
            text=True,
            timeout=600,
        )


def install(folder: Path) -> Installed:
    """Build sdist and wheel, the wheel from the sdist, and install the wheel into a fresh environment.

    The packages that nelbo needs are those of this environment, which saves their download; nelbo itself is not: an
    editable installation is a .pth file, and those of a folder that is named in a .pth file are not read.
    """
    built = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    home = folder / "home"
    home.mkdir()
    return Installed(environment, home)
