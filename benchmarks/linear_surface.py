"""One linear VAE for every beta and number of latents, compared with the exact optimum of each.

    python benchmarks/linear_surface.py [run=outputs/linear_surface] [out=linear_surface.png]

Trains `experiment=linear_surface` unless the run exists, which takes about five minutes on one core. Prints the table
of docs/linear.md and draws its picture. Rate, squared error and regret, which is beta * rate + distortion less that of
the optimum, divided by max(1, beta), are exact for the training images: nothing is sampled.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import kl_divergence

import nelbo
from nelbo.data import digits
from nelbo.models import VAE
from nelbo.theory.spectrum import Spectrum
from nelbo.theory.water_filling import Optimum, distortion, optimum

ROOT = Path(__file__).parents[1]
SIGMA2 = 0.1**2
BETAS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)
COUNTS = (1, 2, 4, 8, 16, 32)
COLOURS = ("#000000", "#CC79A7", "#E69F00", "#009E73", "#D55E00", "#0072B2")


class Cell(NamedTuple):
    """A setting of the model, with its exact optimum."""

    beta: float
    count: int
    rate: float
    error: float
    best: Optimum

    @property
    def regret(self) -> float:
        """How much beta * rate + distortion exceeds the optimum's, divided by max(1, beta), in nats."""
        loss = self.beta * self.rate + distortion(self.error, 64, SIGMA2)
        return (loss - self.beta * self.best.rate - self.best.distortion) / max(1, self.beta)


def columns(model: nelbo.models.Model, latent_dim: int) -> Tensor:
    """Return the columns of the decoder's matrix, (P, D)."""
    unit = torch.eye(latent_dim, dtype=torch.float64)
    zero = torch.zeros(1, latent_dim, dtype=torch.float64)
    return (model.decode(unit).mean - model.decode(zero).mean).flatten(1).T


def measure(model: VAE, x: Tensor, values: Tensor, beta: float, count: int) -> Cell:
    """Return rate and squared error of a setting on images x (N, 1, 8, 8)."""
    bound = model.at(beta=beta, latent_dim=count)
    q = bound.encode(x)
    rate = float(kl_divergence(q, bound.top_prior()).mean())
    spread = q.variance @ columns(bound, model.latent_dim).square().sum(0)
    error = float(((bound.decode(q.mean).mean - x).flatten(1).square().sum(1) + spread).mean())
    return Cell(beta, count, rate, error, optimum(Spectrum(values, values), count, beta, SIGMA2))


def largest_angle(model: VAE, vectors: Tensor, count: int) -> float:
    """Return the largest principal angle, in degrees, between the decoder's first columns and the components."""
    basis, _ = torch.linalg.qr(columns(model.at(beta=0.01), model.latent_dim)[:, :count])
    cosines = torch.linalg.svdvals(basis.T @ vectors[:, :count]).clamp(max=1)
    return float(torch.rad2deg(torch.acos(cosines.min())))


def draw_plane(axes: Axes, values: Tensor, cells: list[Cell]) -> None:
    """Draw rate against squared error: exact lines over all betas, and the settings of the trained model."""
    for colour, count in zip(COLOURS, COUNTS, strict=True):
        betas = torch.logspace(-1.4, 1.1, 80).tolist()
        exact = [optimum(Spectrum(values, values), count, beta, SIGMA2) for beta in betas]
        axes.plot([best.rate for best in exact], [best.error for best in exact], color=colour, linewidth=1.2)
        ours = [cell for cell in cells if cell.count == count]
        points = [cell.rate for cell in ours], [cell.error for cell in ours]
        axes.plot(*points, "o", color=colour, markeredgecolor="white", markersize=6, label=f"{count}")
    axes.set(yscale="log", xlabel="rate, nats per image", ylabel="squared error, summed over pixels")
    axes.set_yticks([0.3, 0.5, 1, 2, 4], ["0.3", "0.5", "1", "2", "4"])
    axes.set_yticks([], minor=True)
    axes.set_title("lines: exact; dots: one training")
    axes.legend(frameon=False, title="latents")


def draw_regret(axes: Axes, cells: list[Cell]) -> None:
    """Draw the regret of each setting as a heat map with its values."""
    table = torch.tensor(
        [[next(c.regret for c in cells if (c.count, c.beta) == (k, b)) for b in BETAS] for k in COUNTS]
    )
    axes.imshow(table, cmap="Blues", vmin=0, vmax=2 * float(table.max()), aspect="auto")
    for row, line in enumerate(table.tolist()):
        for column, value in enumerate(line):
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", fontsize=9)
    axes.set_xticks(range(len(BETAS)), [f"{beta:g}" for beta in BETAS])
    axes.set_yticks(range(len(COUNTS)), [str(count) for count in COUNTS])
    axes.set(xlabel="β", ylabel="latents")
    axes.set_title("nats above the optimum, divided by max(1, β)")


@torch.no_grad()
def main(run: Path, out: Path) -> None:
    """Train, print and draw."""
    if not (run / "metrics.json").is_file():
        command = [sys.executable, "train.py", "experiment=linear_surface", "threads=1", f"hydra.run.dir={run}"]
        subprocess.run(command, cwd=ROOT, check=True)
    model = nelbo.load(run / "checkpoints" / "last.ckpt").double()
    assert isinstance(model, VAE) and model.surface is not None
    x = digits().train.images.double() / 255
    values, vectors = torch.linalg.eigh(torch.cov(x.flatten(1).T, correction=0))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    cells = [measure(model, x, values, beta, count) for count in COUNTS for beta in BETAS]
    print("| latents | beta | rate | exact | squared error | exact | regret, nats |")
    print("|---|---|---|---|---|---|---|")
    for cell in cells:
        rates, errors = f"{cell.rate:.3f} | {cell.best.rate:.3f}", f"{cell.error:.4f} | {cell.best.error:.4f}"
        print(f"| {cell.count} | {cell.beta:g} | {rates} | {errors} | {cell.regret:.4f} |")
    off = [abs(cell.rate - cell.best.rate) > max(0.01, 0.01 * cell.best.rate) for cell in cells]
    far = [abs(cell.error / cell.best.error - 1) > 0.01 for cell in cells]
    print(f"rates beyond 1% and 0.01 nats: {sum(off)} of {len(cells)}; errors beyond 1%: {sum(far)}")
    print(
        "largest principal angle:",
        ", ".join(f"{count}: {largest_angle(model, vectors, count):.1f}" for count in COUNTS),
    )
    print("CPU seconds of training:", json.loads((run / "metrics.json").read_text())["train_cpu_seconds"])
    figure = Figure(figsize=(12, 4.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    draw_plane(left, values, cells)
    draw_regret(right, cells)
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    given = dict(argument.partition("=")[::2] for argument in parser.parse_args().arguments)
    main(Path(given.get("run", "outputs/linear_surface")).resolve(), Path(given.get("out", "linear_surface.png")))
