"""The values of config keys that cells have, and their text form."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import TypeGuard

from nelbo.config.identity import MACHINE_FACTS
from nelbo.config.keys import select
from nelbo.sweeps.cells.record import Cell

NOT_SWEPT = ("sweep", *MACHINE_FACTS)
"""Keys that are never an axis of a sweep."""

Value = bool | int | float | str | None


def overrides_by_key(cell: Cell) -> dict[str, str]:
    """Return the text of a cell's overrides by key, without the signs `+`, `++` and `~`."""
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in cell.overrides)}


def is_axis(key: str) -> bool:
    """Return whether a key may be an axis of a sweep: keys of Hydra, the sweep or the machine may not."""
    return key not in NOT_SWEPT and not key.startswith(("hydra.", "hydra/"))


def value_of(cell: Cell, key: str) -> Value:
    """Return the value that a cell has for a key.

    It comes from the overrides, else from the chosen option of the config group `key`, else from the config. A mapping
    in the config is represented by the option that was chosen for it, or by its JSON.

    Returns:
        The value; None if the cell has none.
    """
    overrides = overrides_by_key(cell)
    if key in overrides:
        return parse(overrides[key])
    choices = cell.record.get("choices") or {}
    if key in choices:
        return parse(str(choices[key]))
    value = select(cell.record.get("config") or {}, key)
    if isinstance(value, Mapping):
        options = [str(option) for group, option in choices.items() if group.endswith(f"@{key}")]
        return options[0] if options else json.dumps(value, separators=(",", ":"))
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Value:
    """Return the value that the text of an override stands for: a number, boolean, None or unquoted text.

    >>> parse("1e-3"), parse("true"), parse("null"), parse("'a b'"), parse("[2, 3]")
    (0.001, True, None, 'a b', '[2,3]')
    """
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    if text in ("true", "false", "True", "False"):
        return text.lower() == "true"
    if text in ("null", ""):
        return None
    if text[0] == text[-1] and text[0] in "'\"" and len(text) > 1:
        return text[1:-1]
    return text.replace(" ", "") if text[0] in "[{" else text


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def ascending(value: Value) -> tuple[int, float]:
    """Return a sort key: numbers in ascending order, then text in the order in which it was typed, then None."""
    if is_number(value):
        return 0, float(value)
    return (2, 0.0) if value is None else (1, 0.0)


def format_value(value: Value) -> str:
    """Return a value as it would be typed in an override, with six significant digits.

    >>> format_value(None), format_value(True), format_value(0.1 + 0.2)
    ('null', 'true', '0.3')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, ".6g") if isinstance(value, float) else str(value)


def format_exactly(value: float) -> str:
    """Return a number as `format_value` does, but with as many digits as it has.

    >>> format_exactly(1.0), format_exactly(0.12345678), format_exactly(8)
    ('1', '0.12345678', '8')
    """
    return text if float(text := format_value(value)) == value else repr(value)
