"""Numbers as they are recorded in JSON, and their comparison with new ones, up to rounding or bit for bit."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

Value = float | str | list[float]
"""A number, a text, or the numbers of a tensor in row-major order."""

MOST = 24
"""Largest number of elements that are recorded one by one; a larger tensor is recorded by its `summary`."""

EXACT, RECORD = "exact", "record"
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Largest difference that rounding explains: relative to the recorded value, or, near zero, in nats."""


SINGLE = "float32/"
"""How names of values begin that are computed in float32 also where others are not."""


def mode() -> str:
    """Return what NELBO_REGRESSION asks for: `exact`, `record`, or, if it is not set, an empty text."""
    value = os.environ.get("NELBO_REGRESSION", "")
    assert value in ("", EXACT, RECORD), f"NELBO_REGRESSION={value}: must be {EXACT} or {RECORD}, or not be set"
    return value


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread within a block: the order of sums, and so the last bits, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def plain(value: object) -> Value:
    """Return a value as it is recorded."""
    if not isinstance(value, Tensor):
        assert isinstance(value, float | int | str), value
        return value
    flat = value.detach().double().flatten()
    if value.ndim == 0:
        return flat.item()
    return summary(flat) if len(flat) > MOST else flat.tolist()  # type: ignore[no-any-return]


def summary(value: Tensor) -> list[float]:
    """Return the norm of a tensor, and its product with a pattern, which notices another order of its elements."""
    flat = value.detach().double().flatten()
    pattern = torch.arange(1, len(flat) + 1, dtype=torch.float64).cos()
    return [flat.norm().item(), (flat * pattern).sum().item()]


def tensors(name: str, named: Iterable[tuple[str, Tensor]]) -> dict[str, Value]:
    """Return a summary of each tensor, and a SHA-256 of the bytes of all of them."""
    values: dict[str, Value] = {}
    digest = hashlib.sha256()
    for key, tensor in named:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
        values[f"{name}/{key}"] = summary(tensor)
    return values | {f"{name}/sha256": digest.hexdigest()}


def read(file: Path) -> dict[str, dict[str, Value]]:
    """Return what `write` wrote."""
    content: dict[str, dict[str, Value]] = json.loads(file.read_text())
    return content


def write(file: Path, content: Mapping[str, Mapping[str, Value]]) -> None:
    """Write values by two names, with all digits, one to a line."""
    groups = []
    for name, values in sorted(content.items()):
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(values.items())]
        groups.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    file.write_text("{\n" + ",\n".join(groups) + "\n}\n")


def bits(value: Any) -> Any:
    """Return a value with every number in a notation that is equal only for equal bits."""
    if isinstance(value, list):
        return [bits(element) for element in value]
    return value if isinstance(value, str) else float(value).hex()


def differences(found: Mapping[str, Any], expected: Mapping[str, Any], dtype: torch.dtype, *, exact: bool) -> list[str]:
    """Return a line for each value that is missing, new, or another one.

    Args:
        found: numbers, lists of numbers and texts by name.
        expected: the recorded ones. Digests, whose names end in sha256, are compared only if `exact`.
        dtype: what the numbers were computed in, except those whose names begin with `SINGLE`.
        exact: whether all bits must be equal.
    """
    lines = [f"{key}: missing" for key in expected.keys() - found.keys()]
    lines += [f"{key}: new, {found[key]}" for key in found.keys() - expected.keys()]
    for key in sorted(found.keys() & expected.keys()):
        new, old = found[key], expected[key]
        if exact:
            same = bits(new) == bits(old)
        elif key.endswith("sha256"):
            continue
        elif isinstance(old, str) or isinstance(new, str):
            same = new == old
        else:
            tolerance = TOLERANCES[torch.float32 if key.startswith(SINGLE) else dtype]
            same = new == pytest.approx(old, rel=tolerance, abs=tolerance, nan_ok=True)
        if not same:
            lines.append(f"{key}: {new}, recorded {old}")
    return lines
