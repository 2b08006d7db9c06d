"""Many runs in one process leak no memory, threads, open files or temporary files."""

from __future__ import annotations

import pytest

from tests.helpers.forks import python


@pytest.mark.slow
def test_soak() -> None:
    """benchmarks/soak.py with 60 runs; docs/reliability.md has the figures of 200."""
    done = python("benchmarks/soak.py", "60", "basic")
    assert done.returncode == 0 and "60 of 60 runs done, exit status 0" in done.stdout, done.stdout + done.stderr
    figures = {}
    for line in done.stdout.splitlines():
        if line.startswith("after"):
            fields = line.split()
            figures[int(fields[1])] = (float(fields[3]), int(fields[6]), int(fields[8]))
    memory, threads, files = zip(*(figures[runs] for runs in (18, 36, 54)), strict=True)
    assert max(threads) == min(threads) and max(files) - min(files) <= 3
    assert memory[2] - memory[1] < 36  # 18 runs with about 1 MiB each, and a margin
    assert "half-written files: []" in done.stdout
