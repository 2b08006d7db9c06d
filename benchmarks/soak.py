"""Many short runs in one sweep: memory, threads, open files and temporary files that should not grow.

    python benchmarks/soak.py [runs] [launcher]

Starts `train.py -m seed=0,1,...` on the 8x8 digits with hydra/launcher=basic (all runs in one process) or local (a
process for each), and observes the process of the sweep from outside: its resident memory, threads and open files, and
the files left in its $TMPDIR. The numbers of threads and files are the smallest between the ends of two runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = ("model=tanh_mlp_vae", "data=digits", "trainer=smoke", "model.encoder.hidden=[16]", "model.decoder.hidden=[16]")


def observe(pid: int) -> tuple[float, int, int]:
    """Return the resident memory of a process in MiB, and its numbers of threads and open files."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def main(runs: int, launcher: str) -> None:
    """Run the sweep, and print what was observed."""
    with tempfile.TemporaryDirectory() as sweep, tempfile.TemporaryDirectory() as scratch:
        seeds = ",".join(map(str, range(runs)))
        command = [sys.executable, "train.py", "-m", *SMALL, f"seed={seeds}", f"hydra/launcher={launcher}"]
        with (Path(sweep) / "output").open("w") as output:
            process = subprocess.Popen(
                [*command, f"hydra.sweep.dir={sweep}"],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": scratch},
                stdout=output,
                stderr=output,
            )
            observed: dict[int, tuple[float, int, int]] = {}
            while process.poll() is None:
                ended = len(list(Path(sweep).glob("*/metrics.json")))
                try:
                    now = observe(process.pid)
                except (FileNotFoundError, KeyError):  # the process has just ended
                    break
                # A run that has written its result still has files open, and the next run soon opens others.
                before = observed.get(ended, now)
                observed[ended] = now[0], min(before[1], now[1]), min(before[2], now[2])
                time.sleep(0.02)
            status = process.wait()
        for ended in sorted(observed):
            if ended in (1, runs) or ended % max(1, runs // 10) == 0:
                memory, threads, files = observed[ended]
                print(f"after {ended:4d} runs: {memory:7.1f} MiB resident, {threads} threads, {files} open files")
        done = len(list(Path(sweep).glob("*/metrics.json")))
        partial = [path for path in Path(sweep).rglob(".partial-*")]
        print(f"{done} of {runs} runs done, exit status {status}")
        print(f"left in $TMPDIR: {sorted(os.listdir(scratch))}; half-written files: {partial}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="?", type=int, default=200)
    parser.add_argument("launcher", nargs="?", default="basic")
    options = parser.parse_args()
    main(options.runs, options.launcher)
