"""Models with one level of latents give the numbers that were recorded: losses, gradients, measures and pictures.

`regression.json` holds them with all digits. The environment variable NELBO_REGRESSION chooses what is done with it:
if it is not set, values may differ by rounding, because processors and versions of torch round differently; `exact`
wants every bit, to compare the code before and after a change on one machine; `record` writes the file.
"""

from __future__ import annotations

import math

import pytest
import torch

from tests.helpers.forks import ROOT
from tests.helpers.recorded import EXACT, RECORD, SINGLE, differences, mode, read, write
from tests.helpers.regression import SETTINGS, measured

FILE = ROOT / "tests" / "models" / "regression.json"


def test_the_recorded_settings_are_those_that_are_measured() -> None:
    if mode() == RECORD:
        write(FILE, {name: values for name, values in read(FILE).items() if name in SETTINGS} if FILE.exists() else {})
        pytest.skip(f"{FILE.name} is being written")
    assert read(FILE).keys() == SETTINGS.keys()


@pytest.mark.parametrize("name", SETTINGS)
def test_numbers_are_those_that_were_recorded(name: str) -> None:
    setting = SETTINGS[name]
    found = measured(setting)
    if mode() == RECORD:
        write(FILE, {**read(FILE), name: found})
        pytest.skip(f"{FILE.name} is being written")
    changed = differences(found, read(FILE)[name], setting.dtype, exact=mode() == EXACT)
    assert not changed, "\n".join(changed)


@pytest.mark.parametrize("number", [0.0, 1e-3, -52.0, math.nan])
def test_a_change_beyond_rounding_is_noticed_and_of_one_bit_on_request(number: float) -> None:
    def count(new: float, *, exact: bool = False, key: str = "key", dtype: torch.dtype = torch.float64) -> int:
        return len(differences({key: [1.0, new]}, {key: [1.0, number]}, dtype, exact=exact))

    size = max(1.0, abs(number))
    assert count(number) == count(number, exact=True) == 0
    if math.isnan(number):
        assert count(0.0) == count(0.0, exact=True) == 1
        return
    assert count(math.nextafter(number, math.inf)) == 0
    assert count(math.nextafter(number, math.inf), exact=True) == 1
    assert count(number + 0.9e-9 * size) == 0
    assert count(number + 1.1e-9 * size) == count(number + 1.1e-5 * size, dtype=torch.float32) == 1
    assert count(number + 0.9e-5 * size, key=f"{SINGLE}key") == 0


def test_missing_and_new_values_and_other_texts_and_lengths_are_noticed() -> None:
    old = {"a": [1.0, 2.0], "text": "x", "b/sha256": "0"}
    changes = ({"a": [1.0]}, {"a": "x"}, {"text": "y"}, {"text": 1.0}, {"more": 0.0})
    for change in changes:
        assert len(differences({**old, **change}, old, torch.float64, exact=False)) == 1
    assert len(differences({}, old, torch.float64, exact=False)) == len(old)
    digest = {**old, "b/sha256": "1"}
    assert [len(differences(digest, old, torch.float64, exact=exact)) for exact in (False, True)] == [0, 1]
