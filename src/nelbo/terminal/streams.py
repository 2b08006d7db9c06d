"""Standard streams whose reader may leave before the end, as `| head` does: what is written then goes nowhere.

A run that is over has failed in nothing, and one that trains is worth more than lines that nobody reads.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any


class LeavableFile(io.FileIO):
    """A file that turns into `os.devnull` when it is a pipe and nobody reads from it any more."""

    def write(self, data: Any) -> int:
        """Write bytes.

        Returns:
            How many were taken.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Let `sys.stdout` and `sys.stderr` be such files; streams that somebody has put in their place stay."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f"__{name}__"):
            continue
        stream.flush()
        raw = LeavableFile(stream.fileno(), "wb", closefd=False)
        unbuffered = isinstance(stream.buffer, io.FileIO)  # python -u
        leavable = io.TextIOWrapper(
            raw if unbuffered else io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, leavable)
        setattr(sys, f"__{name}__", leavable)
