"""Latency of the latent explorer: from a movement of the mouse to the changed picture, in headless Chromium.

python -m benchmarks.explorer run=outputs/<date>/<run> [moves=60]

The mouse is pressed on the plane and moved again and again; after each movement the picture is read until a pixel of it
differs. Prints median, 95% quantile and maximum, the bytes that the page loads, and those of the decoder's parameters.
Needs Chromium, and the extra `explore`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tests.helpers.browser import browser
from tests.helpers.explored_page import LOADED, drag, loaded_bytes

import nelbo

ROOT = Path(__file__).parents[1]


def main() -> None:
    options = dict(argument.split("=", 1) for argument in sys.argv[1:])
    moves = int(options.get("moves", "60"))
    command = [sys.executable, "scripts/explore.py", f"run={options['run']}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split("open ")[1].split()[0]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, browser(Path(folder)) as tab:
            tab.resize(1440, 900)
            tab.open(address, LOADED)
            delays = np.array(drag(tab, "[data-part=plane]", moves))
            loaded = loaded_bytes(tab)
    finally:
        process.terminate()
        process.wait(30)
    decoder = sum(value.numel() * value.element_size() for value in nelbo.load(options["run"]).decoder.parameters())
    low, high, most = np.median(delays), np.quantile(delays, 0.95), delays.max()
    print(f"{len(delays)} movements: median {low:.0f} ms, 95% quantile {high:.0f} ms, maximum {most:.0f} ms")
    print(f"page {loaded / 1000:.0f} kB, parameters of the decoder {decoder / 1000:.0f} kB")
    print(f"load of this machine: {os.getloadavg()[0]:.1f} programs on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
