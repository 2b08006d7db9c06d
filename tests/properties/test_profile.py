"""`make test` uses the same inputs in every run, `make test-random` more and new ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.forks import ROOT


@pytest.mark.parametrize(("profile", "expected"), [("fixed", "True 200"), ("random", "False 2000")])
def test_property_tests_have_a_fixed_and_a_random_profile(profile: str, expected: str) -> None:
    code = "from tests.helpers.properties import tried; print(tried.derandomize, tried.max_examples)"
    environment = {**os.environ, "NELBO_PROPERTIES": profile}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected.split()
    assert "NELBO_PROPERTIES=random" in (ROOT / "Makefile").read_text()
