"""Run a script whose output pipe is closed: `tests/helpers/closed_pipe.py STREAMS SCRIPT ARGUMENT...`.

STREAMS are the numbers of the closed streams: 1 for stdout, 2 for stderr, 12 for both.
"""

from __future__ import annotations

import os
import runpy
import sys

if __name__ == "__main__":
    reader, writer = os.pipe()
    os.close(reader)
    for stream in sys.argv[1]:
        os.dup2(writer, int(stream))
    sys.argv = sys.argv[2:]
    runpy.run_path(os.path.abspath(sys.argv[0]), run_name="__main__")
