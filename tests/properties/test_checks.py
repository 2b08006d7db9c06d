"""Checks of config values accept a value if and only if it is valid, and raise only a ConfigError."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nelbo import errors
from nelbo.data.arrays import held_out
from nelbo.errors import ConfigError, as_hydra_takes
from tests.helpers.properties import tried

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.fractions(),
    st.decimals(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
)
ANYTHING = st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(st.text(max_size=2), SCALARS, max_size=2))


def accepted(check: Callable[[], object], value: object) -> bool:
    """Return whether a check accepts the value and returns it unchanged."""
    try:
        assert check() == value
    except ConfigError as error:
        assert is_shown(error.value, value)
        assert error.key == "key" and str(error).startswith(f"key={as_hydra_takes(error.value)}: ") and error.hint
        return False
    return True


def is_shown(shown: object, value: object) -> bool:
    """Return whether an error shows the value itself, its repr if it is not printable, or its quoted text."""
    return shown is value or shown == repr(value) or (isinstance(value, str) and shown == f"'{value}'")


def is_number(value: object) -> bool:
    if not isinstance(value, int | float | Fraction) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # False for a NaN


@tried
@given(value=ANYTHING, minimum=st.integers(-5, 5), maximum=st.one_of(st.none(), st.integers(-5, 9)))
def test_integers(value: object, minimum: int, maximum: int | None) -> None:
    fits = type(value) is int and value >= minimum and (maximum is None or value <= maximum)
    assert accepted(lambda: errors.integer("key", value, minimum=minimum, maximum=maximum), value) == fits
    assert accepted(lambda: errors.positive_integer("key", value), value) == (type(value) is int and value >= 1)
    none_or_positive = value is None or (type(value) is int and value >= 1)
    assert accepted(lambda: errors.at_most("key", value), value) == none_or_positive


@tried
@given(value=ANYTHING, minimum=st.floats(-5, 5), positive=st.booleans())
def test_numbers(value: object, minimum: float, positive: bool) -> None:
    fits = is_number(value) and value >= minimum and (value > 0 or not positive)  # type: ignore[operator]

    def check() -> object:
        result = errors.number("key", value, minimum=minimum, positive=positive)
        assert type(result) is float and math.isclose(result, value, rel_tol=1e-15)  # type: ignore[arg-type]
        return value

    assert accepted(check, value) == fits


@tried
@given(value=ANYTHING)
def test_choices_and_booleans_and_paths(value: object) -> None:
    options = ["", "a", "0"]
    assert accepted(lambda: errors.choice("key", value, options), value) == (
        isinstance(value, str) and value in options
    )
    assert accepted(lambda: errors.boolean("key", value), value) == isinstance(value, bool)

    def check() -> object:
        result = errors.path("key", value)
        assert value.startswith("~") or result == Path(value)  # type: ignore[attr-defined,arg-type]
        return value

    assert accepted(check, value) == (isinstance(value, str) and value != "" and "\0" not in value)


@tried
@given(size=st.one_of(SCALARS, st.floats(0, 3), st.integers(0, 60)), total=st.integers(1, 50))
def test_held_out_size_is_a_number_or_a_fraction(size: object, total: int) -> None:
    """At least one image remains for training, and a fraction above 0 holds out at least one image."""
    try:
        count = held_out("key", size, total)  # type: ignore[arg-type]
    except ConfigError as error:
        assert error.key == "key" and is_shown(error.value, size)
        whole = is_number(size) and 0 <= size < total and (size == int(size) or size < 1)  # type: ignore[operator,call-overload]
        assert not whole or max(1, round(size * total)) >= total  # type: ignore[operator]
        return
    assert isinstance(count, int) and 0 <= count < total
    assert count == size if size >= 1 or size == 0 else 1 <= count <= size * total + 1  # type: ignore[operator]
