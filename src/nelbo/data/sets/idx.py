"""The IDX format of the original MNIST files: magic number, sizes, bytes."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from nelbo.errors import DataError


def read_idx(path: Path) -> Tensor:
    """The uint8 array in an IDX file, in its own shape.

    Raises:
        DataError: if the header is not IDX of bytes, or the length is not what the header says.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an IDX file of bytes; delete it to fetch it anew")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path}: truncated; delete it to fetch it anew")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if 0 in shape:
        raise DataError(f"{path}: announces no values; delete it to fetch it anew")
    if len(content) - start != math.prod(shape):
        raise DataError(f"{path}: {len(content) - start} values where {math.prod(shape)} are announced; delete it")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)
