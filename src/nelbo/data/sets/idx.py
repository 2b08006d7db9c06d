"""Reader of the IDX format of the original MNIST files."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import torch
from torch import Tensor

from nelbo.errors import DataError

HINT = "delete it to fetch it again"


def read_idx(path: Path) -> Tensor:
    """Read the array in an IDX file of bytes.

    Returns:
        A uint8 tensor of the shape in the file's header.

    Raises:
        DataError: if it is not an IDX file of bytes, or its length does not fit the header.
    """
    content = path.read_bytes()
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path}: not an IDX file of bytes; {HINT}")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{path}: truncated; {HINT}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if 0 in shape:
        raise DataError(f"{path}: its header declares no values; {HINT}")
    if len(content) - start != math.prod(shape):
        raise DataError(f"{path}: {len(content) - start} values, but its header declares {math.prod(shape)}; {HINT}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)
