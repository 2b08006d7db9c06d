"""Without a network and with an empty cache, tests that need published data sets are skipped with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.forks import ROOT


@pytest.mark.slow
def test_without_a_network_tests_of_published_data_sets_are_skipped_with_the_reason(tmp_path: Path) -> None:
    offline = {"PATH": "", "https_proxy": "http://127.0.0.1:9", "NELBO_DATA": str(tmp_path)}
    tests = [
        "tests/data/test_sets.py::test_mnist_is_the_original",
        "tests/running/test_train.py::test_smoke_from_an_empty_cache",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=ROOT,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "3 skipped" in done.stdout, done.stdout
    assert "needs data=mnist: " in done.stdout and "needs a network: " in done.stdout
    # One line for each reason, with the number of tests.
    assert done.stdout.count("not in the cache and cannot be fetched") == 2
