"""Standard streams that discard output once their reader has closed the pipe, as `| head` does.

Without this a command would fail with BrokenPipeError, and a training run would be lost for output that is not read.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class ClosedPipeTolerantFile(io.FileIO):
    """A file that redirects itself to `os.devnull` once it is a pipe without a reader."""

    def write(self, data: Any) -> int:
        """Write bytes, or discard them if the pipe has no reader.

        Returns:
            Number of bytes written or discarded.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self.fileno())
            return memoryview(data).nbytes


def tolerate_closed_pipes() -> None:
    """Make `sys.stdout` and `sys.stderr` tolerate a closed pipe, unless they have been replaced by other streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        raw = ClosedPipeTolerantFile(stream.fileno(), "wb", closefd=False)
        unbuffered = isinstance(stream.buffer, io.FileIO)  # python -u
        tolerant = io.TextIOWrapper(
            raw if unbuffered else io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, tolerant)
        setattr(sys, f"__{name}__", tolerant)
