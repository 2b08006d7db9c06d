"""Conversion of arrays to 8-bit pixels where it is exact, and advice to the user where it is not.

Shapes: N images.
"""

from __future__ import annotations

import numpy as np

EXACT = 0.01
"""Maximum distance of a number from k / 255, in units of 1 / 255; 16-bit floats may be off by their rounding error."""


def eight_bits(array: np.ndarray) -> np.ndarray | None:
    """Convert an array to uint8 pixels if that is exact.

    Args:
        array: whole numbers from 0 to 255, booleans, or multiples of 1 / 255 in [0, 1].

    Returns:
        The pixels; None for any other array.

    Example:
        >>> eight_bits(np.array([0.0, 0.2, 1.0])).tolist()
        [0, 51, 255]
        >>> eight_bits(np.array([0.5])) is None
        True
    """
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf" or array.size == 0:
        return None
    low, high = array.min(), array.max()
    if kind in "iu":
        return array.astype(np.uint8) if low >= 0 and high <= 255 else None
    if not (low >= 0 and high <= 1):
        return None
    scaled = array.astype(np.float32) * 255
    rounded = np.round(scaled)
    # The rounding error of a number below 1 is at most a quarter of epsilon.
    tolerance = max(EXACT, 255 * float(np.finfo(array.dtype).eps) / 4 + 1e-4)
    return rounded.astype(np.uint8) if np.abs(scaled - rounded).max() <= tolerance else None


def advice(array: np.ndarray, name: str) -> str:
    """Return why an array that holds no floats has no pixels of 8 bits, and a NumPy expression that converts it."""
    if array.dtype.kind not in "iu":
        return f"{name} holds {array.dtype}; save uint8 pixels from 0 to 255, or floats"
    code, meaning = conversion(array)
    problem = f"{array.dtype} between {array.min():g} and {array.max():g}"
    floats = "or x.astype(np.float32) for numbers that are no pixels"
    return f"{name} holds {problem}; save {code.format(x='x')}, where x is {name}{meaning}, {floats}"


def conversion(array: np.ndarray) -> tuple[str, str]:
    """Return a NumPy expression that converts finite numbers to pixels, and what it assumes, judged from their range.

    Returns:
        The expression, with `{x}` for the array, and the end of a sentence with the assumption; empty without one.
    """
    low, high = float(array.min()), float(array.max())
    whole = array.dtype.kind in "iu" or bool((array == np.round(array)).all())
    bits = max(9, int(high).bit_length())
    if array.dtype.kind in "iu" and low >= 0:
        return f"({{x}} >> {bits - 8}).astype(np.uint8)", f" and white is {2**bits - 1}"
    if 0 <= low and 0 < high <= 1.0001 / 255:  # float32 may round up
        return "np.round(65025 * {x}).astype(np.uint8)", " and was divided by 255 twice"
    if -0.1 <= low and high <= 1.1:
        return f"np.round(255 * {_clipped(low, high, 0, 1)}).astype(np.uint8)", ""
    if -1.1 <= low and high <= 1.1:
        return f"np.round(127.5 * ({_clipped(low, high, -1, 1)} + 1)).astype(np.uint8)", " and -1 is black"
    if whole and -128 <= low < 0 and high <= 127:
        return "({x}.astype(np.int16) + 128).astype(np.uint8)", " and -128 is black"
    if whole and low >= 0 and high < 64:
        return f"np.round({{x}} * (255 / {high:g})).astype(np.uint8)", f" and {high:g} is white"
    if -16 <= low and 64 <= high <= 271:
        return f"np.round({_clipped(low, high, 0, 255)}).astype(np.uint8)", ""
    if low >= 0 and 255 < high < 65536:
        return f"np.round({{x}} * (255 / {2**bits - 1})).astype(np.uint8)", f" and white is {2**bits - 1}"
    stretched = f"({{x}}.astype(float) - {low!r}) / {high - low!r}" if high > low else "{x} * 0"
    return f"np.round(255 * ({stretched})).astype(np.uint8)", f": {low:g} becomes black and {high:g} white"


def _clipped(low: float, high: float, black: int, white: int) -> str:
    return "{x}" if black <= low and high <= white else f"np.clip({{x}}, {black}, {white})"
