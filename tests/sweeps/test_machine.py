"""The slots of a machine that jobs get, and its visible GPUs."""

from __future__ import annotations

import pytest

from nelbo.sweeps.local import take
from nelbo.sweeps.machine import visible_gpus


def test_a_job_gets_slots_on_different_gpus() -> None:
    free: list[str | None] = ["0", "1", "0", "1"]
    assert take(free, 2) == ["0", "1"] and free == ["0", "1"]
    assert take(free, 3) == [] and free == ["0", "1"]
    assert take(free, 1) == ["0"] and take(free, 2) == [] and take(free, 1) == ["1"] and take(free, 1) == []
    cores: list[str | None] = [None, None]
    assert take(cores, 2) == [None, None] and cores == []


def test_a_job_that_requests_more_slots_than_exist_gets_all() -> None:
    free: list[str | None] = [None, None]
    assert take(free, 8, all_free=True) == [None, None] and free == []


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [
        ("", []), ("3", ["3"]), ("0,2", ["0", "2"]), ("-1", []), ("0,-1,1", ["0"]), ("0, 1", ["0", "1"]), ("0,0", []),
        ("NoDevFiles", []), ("GPU-8f4c,MIG-11", ["GPU-8f4c", "MIG-11"]),
    ],
)  # fmt: skip
def test_visible_gpus_are_those_that_cuda_sees(monkeypatch: pytest.MonkeyPatch, variable: str, gpus: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == gpus
