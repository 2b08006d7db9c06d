"""Values of overrides."""

from __future__ import annotations

import pytest

from nelbo.sweeps.cells.values import parse


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), ("1e-3", 1e-3), ("8", 8), ("true", True), ("null", None), ("'a b'", "a b"), ("[2, 3]", "[2,3]")],
)
def test_overrides_are_parsed_to_their_types(text: str, value: object) -> None:
    assert parse(text) == value and type(parse(text)) is type(value)
