"""Many runs in one process leave nothing behind: no memory, no threads, no open files, no temporary files."""

from __future__ import annotations

import pytest

from tests.helpers.forks import python


@pytest.mark.slow
def test_soak() -> None:
    """What benchmarks/soak.py says of 60 runs; docs/reliability.md has the figures of 200."""
    done = python("benchmarks/soak.py", "60", "basic")
    assert done.returncode == 0 and "60 of 60 runs done, exit status 0" in done.stdout, done.stdout + done.stderr
    seen = {}
    for line in done.stdout.splitlines():
        if line.startswith("after"):
            words = line.split()
            seen[int(words[1])] = (float(words[3]), int(words[6]), int(words[8]))
    memory, threads, files = zip(*(seen[runs] for runs in (18, 36, 54)), strict=True)
    assert max(threads) == min(threads) and max(files) - min(files) <= 3
    assert memory[2] - memory[1] < 36  # 1 MiB a run, and 18 runs between
    assert "half-written files: []" in done.stdout
