"""The result of a replay, printed to the terminal."""

from __future__ import annotations

import math

import torch
from rich.table import Table

from nelbo.finished.replay import Replay
from nelbo.terminal.console import make_console, print_table


def print_replay(done: Replay) -> None:
    """Print the terms, the tensors of the batch and the verdict of a replay."""
    console = make_console()
    terms = Table("term", "in training", "now", title="nats per image, and weights")
    for name, value in (*done.recorded.terms.items(), ("loss", done.recorded.loss)):
        now = done.replayed.loss if name == "loss" else done.replayed.terms.get(name, math.nan)
        terms.add_row(name, f"{value!r}", f"{now!r}")
    print_table(terms, console)
    tensors = Table("tensor", "shape", "minimum", "mean", "maximum", "not finite", title="the batch")
    for name, tensor in done.tensors.items():
        values = tensor.float()
        finite = values[values.isfinite()]
        statistics = (finite.min(), finite.mean(), finite.max()) if len(finite) else ()
        cells = [f"{value:.5g}" for value in statistics] or ["-"] * 3
        count = values.numel() - len(finite)
        tensors.add_row(name, " x ".join(map(str, tensor.shape)), *cells, f"{count} of {values.numel()}")
    print_table(tensors, console)
    notes = {
        "images": _images(done),
        "forward": f"first output that is not finite: {done.forward or 'none; the loss or a gradient is not finite'}",
        "backward": f"first output whose gradient is not finite: {done.backward or 'none'}",
        "differs": "; ".join(done.differences),
        "training": str(done.recorded),
        "replay": f"{done.replayed}: {_verdict(done)}",
    }
    for name, note in notes.items():
        if note:
            console.print(f"{name:<10} {note}", highlight=False, markup=False)


def _images(done: Replay) -> str:
    """Return which training images have values that are not finite; empty for none or all of the batch."""
    bad = torch.zeros(len(done.images), dtype=torch.bool)
    for name in ("log p(x|z)", "KL"):
        if name in done.tensors:
            bad |= ~done.tensors[name].cpu().isfinite().all(dim=0)
    return f"not finite for training images {done.images[bad].tolist()}" if 0 < bad.sum() < len(bad) else ""


def _verdict(done: Replay) -> str:
    if not done.is_reproduced:
        return "not reproduced"
    return "reproduced, bit for bit" if done.is_exact else "reproduced, with other last bits"
