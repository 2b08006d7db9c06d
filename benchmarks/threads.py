"""How idle OpenMP threads should wait: training speed by setting, on a quiet and on a busy machine.

    python benchmarks/threads.py [rounds=3]

Settings alternate in one run: torch's default (active waiting), GOMP_SPINCOUNT=20000 (what nelbo's commands set),
OMP_WAIT_POLICY=PASSIVE, and one thread. Busy means as many other processes that compute as there are cores. For each
model it prints the median of images per second, the range over rounds, and the ratio to the default.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETTINGS = {
    "default": {"GOMP_SPINCOUNT": ""},
    "spins 20,000": {"GOMP_SPINCOUNT": "20000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"GOMP_SPINCOUNT": "20000", "OMP_NUM_THREADS": "1"},
}
MODELS = {
    "tanh_mlp_vae": ("model=tanh_mlp_vae", "data=binarized_mnist", "trainer.max_epochs=1"),
    "conv_vae": ("model=conv_vae", "data=mnist", "trainer.max_epochs=1", "trainer.limit_train_batches=40"),
}
COMMON = ("callbacks=none", "logger=none", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1")
BUSY = "while True: sum(range(10000))"


def speed(model: str, setting: str) -> float:
    """Return the images per second of one training."""
    chosen = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in chosen} | SETTINGS[setting]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", *MODELS[model], *COMMON, f"hydra.run.dir={folder}"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        return float(json.loads((Path(folder) / "metrics.json").read_text())["images_per_second"])


def measure(name: str, rounds: int) -> None:
    """Print the speeds on a machine in one state."""
    for model in MODELS:
        speeds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for _ in range(rounds):
            for setting, values in speeds.items():
                values.append(speed(model, setting))
        base = statistics.median(speeds["default"])
        for setting, values in speeds.items():
            middle = statistics.median(values)
            ends = f"{min(values):,.0f} to {max(values):,.0f}"
            print(
                f"{name:5} {model:8} {setting:12} {middle:8,.0f} images/s ({ends}), ratio {middle / base:.2f}",
                flush=True,
            )


def main(arguments: list[str]) -> None:
    """Measure on the machine as it is, and beside processes that compute."""
    rounds = int(dict(argument.split("=") for argument in arguments).get("rounds", "3"))
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    measure("quiet", rounds)
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        measure("busy", rounds)
    finally:
        for other in others:
            other.kill()
            other.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
