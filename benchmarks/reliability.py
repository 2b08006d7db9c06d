"""The cost of reliable checkpoints and the guard: epochs of one run, alternately with and without them.

    python benchmarks/reliability.py [pairs]

Trains model=tanh_mlp_vae on data=mnist, with validation, best.ckpt and last.ckpt after every epoch. In every other
epoch the guard is off, checkpoints are written as Lightning writes them, and they contain neither random states nor the
lengths of logs. An epoch is measured from the end of one validation to the end of the next: checkpoints, training,
validation.
"""

from __future__ import annotations

import argparse
import csv
import runpy
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

import nelbo.running.run  # noqa: F401 # imports everything that is patched below
from nelbo.checkpoints.io import AtomicCheckpointIO
from nelbo.training.callbacks import Guard, History, RandomStates, checkpoints

ON = True
"""Whether the current epoch is one with reliable checkpoints and the guard."""


def only_when_on(owner: Any, name: str, otherwise: Callable[..., Any]) -> None:
    """Replace a function by `otherwise` in epochs without reliable checkpoints and the guard.

    Args:
        owner: the class or module that has the function.
        name: the name of the function.
        otherwise: the function for these epochs.
    """
    original = getattr(owner, name)

    def either(*arguments: Any, **options: Any) -> Any:
        return (original if ON else otherwise)(*arguments, **options)

    setattr(owner, name, either)


def main(pairs: int) -> None:
    """Print the seconds of epochs with and without, and their ratio."""
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
        small = ["model=tanh_mlp_vae", "data=mnist", "callbacks=none", f"trainer.max_epochs={epochs}"]
        sys.argv = ["train.py", *small, f"hydra.run.dir={folder}"]
        runpy.run_path("train.py", run_name="__main__")
        with (Path(folder) / "history.csv").open(newline="") as stream:
            ends = [float(row["seconds"]) for row in csv.DictReader(stream)]
    # Off after the first validation, on after the second, and so on; the first interval of each is left out.
    durations = [after - before for before, after in zip(ends[2:], ends[3:], strict=False)]
    off, on = durations[0::2][:pairs], durations[1::2][:pairs]
    ratios = sorted(ours / theirs for ours, theirs in zip(on, off, strict=True))
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"on {statistics.median(on):.3f} s/epoch, off {statistics.median(off):.3f} (medians)")
    print(f"on / off of neighbouring epochs: median {middle:.3f}, quartiles {low:.3f} to {high:.3f}, {pairs} pairs")
    print(f"mean on / mean off: {statistics.fmean(on) / statistics.fmean(off):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="?", type=int, default=60, help="the number of pairs of epochs")
    main(parser.parse_args().pairs)
