"""A picture of samples of finished runs: a row for each run, with the name of its directory.

python benchmarks/samples.py out=samples.png RUN RUN ...
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nelbo
from nelbo.views.grids import grid

COLUMNS = 14


def main(arguments: list[str]) -> None:
    """Draw the means of p(x|z) for z from the prior."""
    out = next(argument for argument in arguments if argument.startswith("out=")).partition("=")[2]
    runs = [Path(argument) for argument in arguments if not argument.startswith("out=")]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="+", metavar="out=FILE or RUN")
    main(parser.parse_args().arguments)
