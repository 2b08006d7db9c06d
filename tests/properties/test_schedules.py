"""Schedules stay between their ends, and every config value is a schedule or raises a ConfigError."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nelbo.errors import ConfigError
from nelbo.schedules import SCHEDULES, Cosine, Cyclical, Linear, as_schedule
from tests.helpers.properties import tried

ENDS = st.floats(-1e100, 1e100)
STEPS = st.integers(1, 10**9)


@tried
@given(kind=st.sampled_from(list(SCHEDULES.values())), steps=STEPS, start=ENDS, end=ENDS, data=st.data())
def test_schedules_stay_between_their_ends_and_reach_them(
    kind: type[Linear | Cosine | Cyclical], steps: int, start: float, end: float, data: st.DataObject
) -> None:
    schedule = kind(steps=steps, start=start, end=end)
    assert schedule(0) == start
    for step in (steps, steps + data.draw(st.integers(0, 10**9)), math.inf):
        assert schedule(step) == end
    rounding = 4e-16 * max(abs(start), abs(end))
    value = schedule(data.draw(st.integers(0, steps)))
    assert min(start, end) - rounding <= value <= max(start, end) + rounding


@tried
@given(kind=st.sampled_from([Linear, Cosine]), steps=STEPS, start=ENDS, end=ENDS, data=st.data())
def test_ramps_are_monotonic(
    kind: type[Linear | Cosine], steps: int, start: float, end: float, data: st.DataObject
) -> None:
    schedule = kind(steps=steps, start=start, end=end)
    one, other = sorted(data.draw(st.tuples(st.integers(0, steps), st.integers(0, steps))))
    rounding = 4e-16 * max(abs(start), abs(end))
    rise = schedule(other) - schedule(one)
    assert (rise if end >= start else -rise) >= -rounding


@tried
@given(length=st.integers(2, 10**6), cycles=st.integers(1, 20), cycle=st.integers(0, 19), step=st.integers(0))
def test_all_cycles_have_the_same_values(length: int, cycles: int, cycle: int, step: int) -> None:
    schedule = Cyclical(steps=length * cycles, cycles=cycles)
    step %= length
    assert schedule(cycle % cycles * length + step) == pytest.approx(schedule(step), abs=2e-9)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=9), st.binary(max_size=3)
)
NAMES = st.one_of(st.sampled_from(["linear", "cosine", "cyclical"]), VALUES)
OPTIONS = st.dictionaries(st.one_of(st.sampled_from(["steps", "start", "end", "cycles", "ramp", "_"]), VALUES), VALUES)
CONFIG_VALUES = st.one_of(
    VALUES, st.lists(VALUES, max_size=2), st.dictionaries(NAMES, st.one_of(OPTIONS, VALUES), max_size=2)
)


@tried
@given(value=CONFIG_VALUES, minimum=st.sampled_from([0.0, 1e-3, -math.inf]))
def test_config_values_are_schedules_or_raise(value: object, minimum: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    try:
        schedule = as_schedule("beta", value, minimum=minimum)
    except ConfigError as error:
        assert error.key.startswith("beta") and not (is_number and value >= minimum)  # type: ignore[operator]
        return
    assert is_number or isinstance(value, Mapping)
    for step in (0, 1, 10**6, math.inf):
        assert math.isfinite(schedule(step))
    assert min(schedule(0), schedule(math.inf)) >= minimum


@tried
@given(
    name=st.sampled_from(list(SCHEDULES)),
    steps=STEPS,
    start=st.one_of(st.none(), st.floats(-1, 1e9)),
    end=st.one_of(st.none(), st.floats(-1, 1e9)),
)
def test_schedules_are_valid_if_both_ends_are_in_range(
    name: str, steps: int, start: float | None, end: float | None
) -> None:
    options = {"steps": steps, "start": start, "end": end}
    given_options = {option: value for option, value in options.items() if value is not None}
    expected = SCHEDULES[name](**given_options)
    if min(expected.start, expected.end) >= 0:
        assert as_schedule("beta", {name: given_options}, minimum=0) == expected
    else:
        with pytest.raises(ConfigError, match="is the first or last value of its schedule"):
            as_schedule("beta", {name: given_options}, minimum=0)
