"""The time that a sweep spends beside its cells: planning, launching, watching, and the report.

    python benchmarks/bookkeeping.py [cells=1000]

A single cell is trained, `model=linear_vae data=digits trainer=smoke`. Then a sweep of as many cells over the seed,
beta and the latent dimension runs with `hydra/launcher=local`, whose cells copy the files of that one, with other
scores, in place of training. All times are CPU seconds of the sweep's own process, without those of the cells.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from nelbo.commands.hydra_command import hydra_command

ROOT = Path(__file__).parents[1]
SMOKE = ("model=linear_vae", "data=digits", "trainer=smoke")
FINISHED = "NELBO_FINISHED_CELL"
"""The environment variable with the directory of the trained cell."""


def copy_cell(config: DictConfig) -> float:
    """Give the cell of this process the files of the trained one, with its own identity and scores."""
    from hydra.core.hydra_config import HydraConfig

    trained, folder = Path(os.environ[FINISHED]), Path(HydraConfig.get().runtime.output_dir)
    own = shutil.ignore_patterns("cell.*", "metrics.json", "console.log", "train.log", "checkpoints")
    shutil.copytree(trained, folder, ignore=own, dirs_exist_ok=True)
    metrics = json.loads((trained / "metrics.json").read_text())
    metrics["identity"] = json.loads((folder / "cell.json").read_text())["identity"]
    metrics["seed"] = config.seed
    shift = 0.1 * config.seed + config.objective.beta + 0.3 * config.model.latent_dim
    metrics |= {key: value + shift for key, value in metrics.items() if key.startswith(("val/nelbo", "test/nelbo"))}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return float(metrics["val/nelbo"])


def timed(name: str, spent: dict[str, float], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that adds its CPU seconds to `spent`."""

    def wrapper(*arguments: Any, **options: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - start

    return wrapper


def run_sweep() -> None:
    """Run the command of this process, a sweep, and print its times."""
    from nelbo.sweeps.report import write
    from nelbo.sweeps.sweep import Sweep

    spent: dict[str, float] = {}
    parent = os.getpid()
    Sweep.request = timed("plan", spent, Sweep.request)  # type: ignore[method-assign]
    Sweep.launch = timed("launch", spent, Sweep.launch)  # type: ignore[method-assign]
    write.write_report = timed("report", spent, write.write_report)
    write.say_best = timed("report", spent, write.say_best)
    started = time.process_time()
    try:
        hydra_command("config", copy_cell, ROOT / "conf")()
    finally:
        if os.getpid() == parent:
            spent["other"] = time.process_time() - started - sum(spent.values())
            Path(os.environ[FINISHED], "spent.json").write_text(json.dumps(spent))


def measure(count: int) -> None:
    """Print the CPU seconds of each part of a sweep of `count` cells."""
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder, "trained")
        command = [sys.executable, "train.py", "-m", *SMOKE, f"hydra.sweep.dir={trained}", "~hydra.callbacks.report"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        (cell,) = (file.parent for file in trained.glob("*/metrics.json"))
        dimensions, betas = "model.latent_dim=2,4,6,8,10", "objective.beta=0.25,0.5,1,2,4"
        seeds = f"seed=range({count // 25})"
        command = [sys.executable, __file__, "run", "-m", *SMOKE, dimensions, betas, seeds]
        command.append(f"hydra.sweep.dir={Path(folder, 'sweep')}")
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, FINISHED: str(cell)})
        spent = json.loads((cell / "spent.json").read_text())
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    print(f"{count // 25 * 25} cells: {sum(spent.values()):.1f} CPU s ({parts})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        del sys.argv[1]
        run_sweep()
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("arguments", nargs="*", metavar="key=value")
        given = dict(argument.split("=", 1) for argument in parser.parse_args().arguments)
        measure(int(given.get("cells", 1000)))
