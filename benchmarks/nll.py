"""Test negative ELBO and importance-weighted NLL of finished runs, side by side.

python benchmarks/nll.py samples=500 RUN RUN ...
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import torch
import yaml

import nelbo
from nelbo.build import build
from nelbo.evaluation import log_likelihood

BATCH = 100


def test_images(run: Path) -> torch.Tensor:
    """All of the test images, as the run's model saw them."""
    data = build(yaml.safe_load((run / "config.yaml").read_text())["data"], "data")
    data.setup()
    return data.present("test", data.splits["test"].__getitems__(torch.arange(len(data.splits["test"]))))[0]


def main(arguments: list[str]) -> None:
    samples = int(next(a for a in arguments if a.startswith("samples=")).partition("=")[2])
    for run in (Path(a) for a in arguments if not a.startswith("samples=")):
        started = time.perf_counter()
        metrics = json.loads((run / "metrics.json").read_text())
        model, x = nelbo.load(run), test_images(run)
        torch.manual_seed(0)
        nll = -torch.cat([log_likelihood(model, part, samples) for part in x.split(BATCH)]).double()
        told = {key: round(metrics[f"test/{key}"], 3) for key in ("nelbo", "reconstruction", "kl", "active_units")}
        told |= {"nll": round(nll.mean().item(), 3), "standard_error": round((nll.std() / math.sqrt(len(x))).item(), 3)}
        told |= {"epochs": metrics["epochs"], "train_seconds": round(metrics["train_seconds"])}
        print(run.name, told | {"evaluation_seconds": round(time.perf_counter() - started)}, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
