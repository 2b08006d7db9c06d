"""The speed of sweeps: cells one after another (basic) against two at once (local), alternating in one run.

    python benchmarks/sweep.py [rounds=3] [cells=4] [epochs=100]

Each cell trains tanh_mlp_vae on binarized MNIST with one thread. Before that, with cells of one epoch and one cell at a
time, the time of `local` per cell without its training is measured: from the end of one cell to the end of the next,
minus `train_seconds`. It consists of the composition of the config, the fork, loading the data, building the model,
checkpoints, validation and test.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMON = ("model=tanh_mlp_vae", "threads=1", "callbacks=none", "logger=none", "~hydra.callbacks.report")


def sweep(folder: str, *overrides: str) -> float:
    """Run a sweep, and return its seconds."""
    start = time.perf_counter()
    command = [sys.executable, "train.py", "-m", *COMMON, *overrides, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def cells(folder: str) -> list[tuple[float, float, float]]:
    """Return when each cell started and ended, and its seconds of training, in the order of their starts."""
    times = []
    for file in Path(folder).glob("*/cell.json"):
        record, metrics = json.loads(file.read_text()), json.loads((file.parent / "metrics.json").read_text())
        times.append((record["started"], record["ended"], metrics["train_seconds"]))
    return sorted(times)


def speed(rounds: int, count: int, epochs: int) -> None:
    """Print the seconds of whole sweeps, including start and imports."""
    ratios = []
    for number in range(rounds):
        seconds = {}
        for launcher in ("basic", "local"):
            with tempfile.TemporaryDirectory() as folder:
                seeds = f"seed={','.join(map(str, range(count)))}"
                seconds[launcher] = sweep(
                    folder, "data=binarized_mnist", f"trainer.max_epochs={epochs}", seeds, f"hydra/launcher={launcher}"
                )
                trained = statistics.median(train for _, _, train in cells(folder))
        ratios.append(seconds["basic"] / seconds["local"])
        print(
            f"round {number + 1}: basic {seconds['basic']:.1f} s, local {seconds['local']:.1f} s, "
            f"a cell trains {trained:.1f} s, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"basic / local: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def cost(count: int) -> None:
    """Print the seconds per cell without its training, for all cells but the first."""
    for data in ("digits", "binarized_mnist"):
        with tempfile.TemporaryDirectory() as folder:
            seeds = f"seed={','.join(map(str, range(count)))}"
            sweep(folder, f"data={data}", "trainer.max_epochs=1", seeds, "hydra.launcher.n_jobs=1")
            done = cells(folder)
        beyond = [later[1] - earlier[1] - later[2] for earlier, later in zip(done, done[1:], strict=False)]
        between = [later[0] - earlier[1] for earlier, later in zip(done, done[1:], strict=False)]
        print(
            f"{data}: a cell takes {statistics.median(beyond):.2f} s besides its training "
            f"({min(beyond):.2f} to {max(beyond):.2f}), {statistics.median(between):.2f} s of it between cells"
        )


def main(arguments: list[str]) -> None:
    """Print all measurements."""
    given = {"rounds": 3, "cells": 4, "epochs": 100} | {
        key: int(value) for key, _, value in (argument.partition("=") for argument in arguments)
    }
    cost(10)
    speed(given["rounds"], given["cells"], given["epochs"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
