"""Files and commands that a page of the documentation shows, to be tested as they are written."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.forks import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return [body for name, body in BLOCK.findall((ROOT / "docs" / page).read_text()) if name == language]


def write_files(page: str, folder: Path) -> list[Path]:
    """Write the blocks that begin with a comment of a path, such as `# conf/model/mine.yaml`; return their files."""
    files = []
    for body in (body for language in ("python", "yaml") for body in blocks(page, language)):
        if match := re.match(r"# (\S+\.(?:py|yaml))\n", body):
            file = folder / match[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body.removeprefix(match[0]))
            files.append(file)
    return files


def programs(page: str) -> list[str]:
    """Return the Python blocks that are no files."""
    return [body for body in blocks(page, "python") if not re.match(r"# \S+\.py\n", body)]
