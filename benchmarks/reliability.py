"""What saving well and guarding costs: whole epochs of train.py against Lightning's own checkpoints, alternating.

    python benchmarks/reliability.py [rounds] [epochs]

Both train model=mlp_vae on data=mnist and validate and write best and last checkpoints after every epoch. "stock" has
Lightning's ModelCheckpoint and its way of writing, no guard, and no random states. An epoch is from one validation's
end to the next's: training, checkpoints, validation.
"""

from __future__ import annotations

import csv
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STOCK = "--stock"


def stock(overrides: list[str]) -> None:
    """Be train.py with Lightning's own checkpoints."""
    from lightning_fabric.plugins import TorchCheckpointIO
    from pytorch_lightning import Callback
    from pytorch_lightning.callbacks import ModelCheckpoint

    import nelbo.run
    import nelbo.training.trainer
    from nelbo.training.callbacks import Checkpoints

    class Stock(ModelCheckpoint):
        """Of the same names."""

        def __init__(self, folder: Path, signals: object, *, every_n_epochs: int, validated: bool) -> None:
            super().__init__(
                dirpath=folder,
                filename="best",
                monitor="val/objective",
                save_last=True,
                auto_insert_metric_name=False,
                enable_version_counter=False,
                every_n_epochs=every_n_epochs,
                save_on_train_epoch_end=False,
            )
            self.best, self.values = folder / "best.ckpt", dict[str, float]()

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            self.values = {key: float(value) for key, value in trainer.callback_metrics.items() if "val/" in key}
            super().on_validation_end(trainer, pl_module)

    class Nothing(Callback):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__()

    assert nelbo.run.Checkpoints is Checkpoints
    nelbo.run.Checkpoints = Stock  # type: ignore[misc, assignment]
    nelbo.run.RandomStates = Nothing  # type: ignore[misc, assignment]
    nelbo.training.trainer.AtomicCheckpointIO = TorchCheckpointIO  # type: ignore[misc, assignment]
    import nelbo.training.callbacks as callbacks

    callbacks.Guard = type("Guard", (Nothing,), {"__module__": "nelbo.training.callbacks"})  # type: ignore[misc]
    sys.argv = ["train.py", *overrides, "~guard.skip_above"]
    runpy.run_path("train.py", run_name="__main__")


def epochs_of(epochs: int, *, guarded: bool) -> float:
    """Seconds an epoch, the first left out."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=mlp_vae", "data=mnist", "callbacks=none", f"trainer.max_epochs={epochs}"]
        start = ["train.py"] if guarded else [__file__, STOCK]
        command = [sys.executable, *start, *overrides, f"hydra.run.dir={folder}"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        with (Path(folder) / "history.csv").open(newline="") as stream:
            seconds = [float(row["seconds"]) for row in csv.DictReader(stream)]
    return (seconds[-1] - seconds[0]) / (len(seconds) - 1)


def main(rounds: int, epochs: int) -> None:
    ratios = []
    for number in range(rounds):
        ours, theirs = epochs_of(epochs, guarded=True), epochs_of(epochs, guarded=False)
        ratios.append(ours / theirs)
        print(f"round {number + 1}: nelbo {ours:.3f} s/epoch, stock {theirs:.3f}, ratio {ratios[-1]:.3f}", flush=True)
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"nelbo / stock: median {middle:.3f} (min {low:.3f}, max {high:.3f}) over {rounds} rounds of {epochs} epochs")


if __name__ == "__main__":
    if sys.argv[1:2] == [STOCK]:
        stock(sys.argv[2:])
    else:
        main(*(int(argument) for argument in sys.argv[1:] or ("5", "6")))
