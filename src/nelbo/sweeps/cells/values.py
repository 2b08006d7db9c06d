"""What a cell's value of a key is, and how it is written."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from nelbo.config.identity import MACHINE_FACTS
from nelbo.sweeps.cells.record import Cell

NO_AXES = ("sweep", *MACHINE_FACTS)
Value = bool | int | float | str | None


def typed(cell: Cell) -> dict[str, str]:
    """A cell's overrides by key, without the signs that add, change or delete."""
    return {key.lstrip("+~"): value for key, _, value in (override.partition("=") for override in cell.overrides)}


def is_axis(key: str) -> bool:
    """Whether a key may be one: not what concerns the sweep or the machine."""
    return key not in NO_AXES and not key.startswith(("hydra.", "hydra/"))


def value_of(cell: Cell, key: str) -> Value:
    """A cell's value: what was typed, else what its config says, else the option of its group; None if it has none."""
    overrides = typed(cell)
    if key in overrides:
        return parse(overrides[key])
    choices = cell.record.get("choices") or {}
    if key in choices:
        return parse(str(choices[key]))
    value = select(cell.record.get("config") or {}, key)
    if isinstance(value, Mapping):
        placed = [str(option) for group, option in choices.items() if group.endswith(f"@{key}")]
        return placed[0] if placed else json.dumps(value, separators=(",", ":"))
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Value:
    """A typed value: a number, a truth value, nothing, or text without its quotes."""
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


def select(plain: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    value: Any = plain
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def ascending(value: Value) -> tuple[int, float, str]:
    """Numbers in order, then text in order, then nothing."""
    if is_number(value):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


def show(value: Value) -> str:
    """A value as it would be typed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return format(value, ".6g") if isinstance(value, float) else str(value)
