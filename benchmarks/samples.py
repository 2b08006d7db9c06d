"""Samples of finished runs, a row each, under the names of their directories.

python benchmarks/samples.py out=samples.png RUN RUN ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nelbo
from nelbo.views.grids import grid

COLUMNS = 14


def main(arguments: list[str]) -> None:
    out = next(a for a in arguments if a.startswith("out=")).partition("=")[2]
    runs = [Path(a) for a in arguments if not a.startswith("out=")]
    figure = Figure(figsize=(8.6, 0.56 * len(runs)), dpi=110)
    FigureCanvasAgg(figure)
    for axes, run in zip(figure.subplots(len(runs), squeeze=False)[:, 0], runs, strict=True):
        torch.manual_seed(0)
        with torch.no_grad():
            means = nelbo.load(run).generate(COLUMNS).mean
        axes.imshow(grid(means.unsqueeze(0)).squeeze(0), cmap="gray", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_ylabel(run.name, rotation=0, ha="right", va="center", fontsize=10)
    figure.savefig(out, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main(sys.argv[1:])
