"""Numbers of any type as 8-bit pixels where they are such exactly, and otherwise how to make them so.

Shapes: N images.
"""

from __future__ import annotations

import numpy as np

KEPT = "x[np.isfinite(x).reshape(len(x), -1).all(axis=1)]"
EXACT = 0.01
"""How far from a level, in levels, numbers may lie; those of 16 bits as far as rounding takes them."""


def eight_bits(array: np.ndarray) -> np.ndarray | None:
    """Pixels as uint8, of whole numbers from 0 to 255, of booleans, or of numbers k / 255; None of any others."""
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
    # Below 1 a number is rounded by up to a quarter of epsilon.
    exact = max(EXACT, 255 * float(np.finfo(array.dtype).eps) / 4 + 1e-4)
    return rounded.astype(np.uint8) if np.abs(scaled - rounded).max() <= exact else None  # others would be changed


def advice(array: np.ndarray, name: str) -> str:
    """What is wrong with an array that is no 8-bit pixels, and an expression of numpy that makes them of it."""
    if array.dtype.kind not in "iuf":
        return f"{name} holds {array.dtype}; save uint8 pixels from 0 to 255"
    if array.size == 0:
        return f"{name} holds no images"
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.any():
        return f"{name} holds NaN or infinity in every image; save uint8 pixels from 0 to 255"
    if not finite.all():
        kept = array[finite]
        code = "{x}" if eight_bits(kept) is not None else conversion(kept)[0]
        problem = f"NaN or infinity in {int((~finite).sum())} of {len(array)} images"
        return f"{name} holds {problem}; save {code.format(x=KEPT)}, where x is {name}, and leave out their labels too"
    code, meaning = conversion(array)
    low, high = array.min(), array.max()
    inside = array.dtype.kind == "f" and low >= 0 and high <= 1
    problem = "values between the 256 levels" if inside else f"{array.dtype} between {low:g} and {high:g}"
    return f"{name} holds {problem}; save {code.format(x='x')}, where x is {name}{meaning}"


def conversion(array: np.ndarray) -> tuple[str, str]:
    """An expression of {x} that makes pixels of finite numbers, by their range, and what it takes them for."""
    low, high = float(array.min()), float(array.max())
    whole = array.dtype.kind in "iu" or bool((array == np.round(array)).all())
    bits = max(9, int(high).bit_length())
    if array.dtype.kind in "iu" and low >= 0:
        return f"({{x}} >> {bits - 8}).astype(np.uint8)", f" and white is {2**bits - 1}"
    if 0 <= low and 0 < high <= 1 / 255:
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
