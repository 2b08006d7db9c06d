"""What saving well and guarding costs: epochs of one run, every other one without.

    python benchmarks/reliability.py [pairs]

Trains model=mlp_vae on data=mnist, with a validation, best.ckpt and last.ckpt after every epoch. In every other epoch
the guard is off, checkpoints are written as Lightning writes them, and they hold neither random states nor the lengths
of logs. An epoch is from one validation's end to the next's: checkpoints, training, validation.
"""

from __future__ import annotations

import csv
import runpy
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

import nelbo.running.run  # noqa: F401 # all that is patched is imported by it
from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.training.callbacks import Guard, History, RandomStates, checkpoints

ON = True


def only_when_on(owner: Any, name: str, otherwise: Callable[..., Any]) -> None:
    """Call what there is in epochs with, and `otherwise` in those without."""
    original = getattr(owner, name)

    def either(*arguments: Any, **options: Any) -> Any:
        return (original if ON else otherwise)(*arguments, **options)

    setattr(owner, name, either)


def main(pairs: int) -> None:
    for callback in (Guard, RandomStates):
        for name in [name for name in vars(callback) if name.startswith("on_") and name != "on_train_start"]:
            only_when_on(callback, name, lambda *arguments: None)
    only_when_on(checkpoints, "lengths", lambda folder: {})
    stock = TorchCheckpointIO()
    only_when_on(AtomicCheckpointIO, "save_checkpoint", lambda ours, *content, **_: stock.save_checkpoint(*content))
    write = History.on_validation_end

    def switch(*arguments: Any) -> None:
        global ON
        write(*arguments)
        ON = not ON

    History.on_validation_end = switch  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        epochs = 2 * pairs + 3
        small = ["model=mlp_vae", "data=mnist", "callbacks=none", f"trainer.max_epochs={epochs}"]
        sys.argv = ["train.py", *small, f"hydra.run.dir={folder}"]
        runpy.run_path("train.py", run_name="__main__")
        with (Path(folder) / "history.csv").open(newline="") as stream:
            ends = [float(row["seconds"]) for row in csv.DictReader(stream)]
    # After the first validation it is off, after the second on; the first interval of each is left out.
    took = [after - before for before, after in zip(ends[2:], ends[3:], strict=False)]
    off, on = took[0::2][:pairs], took[1::2][:pairs]
    ratios = sorted(ours / theirs for ours, theirs in zip(on, off, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"on {statistics.median(on):.3f} s/epoch, off {statistics.median(off):.3f} (medians)")
    print(f"on / off, pairs of neighbours: median {middle:.3f}, quartiles {low:.3f} to {high:.3f}, {pairs} pairs")
    print(f"mean on / mean off: {statistics.fmean(on) / statistics.fmean(off):.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
