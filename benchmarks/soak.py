"""Many short runs in one process, and as a sweep: does anything grow that should not?

    python benchmarks/soak.py [runs] [launcher]

Starts `train.py -m seed=0,1,...` on the 8x8 digits with hydra/launcher=basic (all runs in one process) or local (a
process each), and looks from outside at the resident memory, threads and open files of the process that lives on, and
at what is left in its $TMPDIR. Threads and files are the fewest between one run's end and the next one's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = ("model=mlp_vae", "data=digits", "trainer=smoke", "model.encoder.hidden=[16]", "model.decoder.hidden=[16]")


def look(pid: int) -> tuple[float, int, int]:
    """Resident MiB, threads, open files."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))


def main(runs: int, launcher: str) -> None:
    with tempfile.TemporaryDirectory() as sweep, tempfile.TemporaryDirectory() as scratch:
        seeds = ",".join(map(str, range(runs)))
        command = [sys.executable, "train.py", "-m", *SMALL, f"seed={seeds}", f"hydra/launcher={launcher}"]
        with (Path(sweep) / "said").open("w") as said:
            process = subprocess.Popen(
                [*command, f"hydra.sweep.dir={sweep}"],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": scratch},
                stdout=said,
                stderr=said,
            )
            seen: dict[int, tuple[float, int, int]] = {}
            while process.poll() is None:
                ended = len(list(Path(sweep).glob("*/metrics.json")))
                try:
                    now = look(process.pid)
                except (FileNotFoundError, KeyError):  # it is just ending
                    break
                # A run that has written its result still has files open, and the next one soon has its own.
                before = seen.get(ended, now)
                seen[ended] = now[0], min(before[1], now[1]), min(before[2], now[2])
                time.sleep(0.02)
            status = process.wait()
        for ended in sorted(seen):
            if ended in (1, runs) or ended % max(1, runs // 10) == 0:
                memory, threads, files = seen[ended]
                print(f"after {ended:4d} runs: {memory:7.1f} MiB resident, {threads} threads, {files} open files")
        done = len(list(Path(sweep).glob("*/metrics.json")))
        partial = [path for path in Path(sweep).rglob(".partial-*")]
        print(f"{done} of {runs} runs done, exit status {status}")
        print(f"left in $TMPDIR: {sorted(os.listdir(scratch))}; half-written files: {partial}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, sys.argv[2] if len(sys.argv) > 2 else "basic")
