"""A script whose reader has left: `tests/helpers/closed_pipe.py STREAMS SCRIPT ARGUMENT...`, STREAMS as 1 or 12."""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    left, end = os.pipe()
    os.close(left)
    for stream in sys.argv[1]:
        os.dup2(end, int(stream))
    sys.argv = sys.argv[2:]
    runpy.run_path(os.path.abspath(sys.argv[0]), run_name="__main__")
