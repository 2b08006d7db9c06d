"""Linear VAEs and their exact solutions in one picture: water level, rate, principal components, factor analysis.

    python benchmarks/linear.py [folder=outputs/linear] [out=linear.png]

Trains ten cells on the digits and one model on drawn images, which takes a few minutes on one core; runs that exist in
`folder` are not repeated. Prints the table of docs/linear.md, whose values are exact for the training images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from sklearn.decomposition import FactorAnalysis
from torch import Tensor

import nelbo
from nelbo.data import digits
from nelbo.models import VAE
from nelbo.theory.spectrum import Spectrum
from nelbo.theory.water_filling import optimum

ROOT = Path(__file__).parents[1]
SIGMA = 0.225
SIGMA2 = SIGMA**2
COMMON = ("model=linear_vae", "data.validation_size=0", "optimizer.lr=0.02", "objective.num_samples=4", "threads=1")
LOOKS = ("callbacks=none", "logger=none")
CELLS = ("-m", "hydra/launcher=basic", "data=digits", "likelihood=gaussian_fixed", f"model.likelihood.sigma={SIGMA}")
GRIDS = {"weak": ("8,32", "0.37,1"), "strong": ("2,16", "2.5,6.5,9")}
LEVELS = {(16, 6.5): "#D55E00", (32, 1.0): "#0072B2"}
"""The cells whose water level is drawn, with its colour."""

COLOURS = {32: "#0072B2", 16: "#D55E00", 8: "#009E73", 2: "#CC79A7"}
SHOWN = ((16, 2.5), (8, 0.37))
"""The cells whose decoders are drawn."""
COLUMNS = 6
Cells = dict[tuple[int, float], VAE]


def train(*overrides: str) -> None:
    """Run train.py."""
    subprocess.run([sys.executable, "train.py", *COMMON, *LOOKS, *overrides], cwd=ROOT, check=True)


def train_cells(folder: Path) -> tuple[Cells, dict[tuple[int, float], float]]:
    """Return ten trained models and the seconds of their training, by number of latents and beta."""
    cells, seconds = {}, {}
    for name, (latent_dims, betas) in GRIDS.items():
        grid = (f"model.latent_dim={latent_dims}", f"objective.beta={betas}", "optimizer.betas=[0.9,0.99]")
        train(*CELLS, *grid, f"hydra.sweep.dir={folder / name}")
        for file in (folder / name).glob("*/cell.json"):
            config: dict[str, Any] = json.loads(file.read_text())["config"]
            key = config["model"]["latent_dim"], float(config["objective"]["beta"])
            cells[key] = nelbo.load(file.parent).double()
            seconds[key] = json.loads((file.parent / "metrics.json").read_text())["train_seconds"]
    return cells, seconds


def train_factor_analysis(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the sigmas of 64 pixels by a VAE and by scikit-learn, for images drawn from a factor analysis model."""
    random = np.random.default_rng(0)
    sigma = np.exp(random.uniform(np.log(0.03), np.log(0.1), 64))
    loadings = sigma[:, None] * np.linalg.qr(random.standard_normal((64, 4)))[0] * np.sqrt((16, 8, 4, 2))
    x = random.uniform(0.4, 0.6, 64) + random.standard_normal((4000, 4)) @ loadings.T
    images = np.round(255 * (x + sigma * random.standard_normal(x.shape)).clip(0, 1)).astype(np.uint8)
    path, run = folder / "factors.npz", folder / "factors"
    np.savez(path, train_images=images.reshape(-1, 8, 8), test_images=images[:256].reshape(-1, 8, 8))
    if not (run / "metrics.json").exists():
        train(
            "data=arrays", f"data.path={path}", "likelihood=gaussian_per_pixel", "model.latent_dim=4",
            "optimizer.betas=[0.9,0.95]", "trainer.max_epochs=300", f"hydra.run.dir={run}",
        )  # fmt: skip
    reference = FactorAnalysis(4, svd_method="lapack", tol=1e-8, max_iter=10_000).fit(images / 255)
    with torch.no_grad():
        ours = nelbo.load(run).double().decode(torch.zeros(1, 4, dtype=torch.float64)).stddev.flatten()
    return ours, torch.from_numpy(reference.noise_variance_).sqrt()


def columns(vae: VAE) -> Tensor:
    """Return W of an affine decoder x = W z + mean, (P, D)."""
    units = torch.cat([torch.zeros(1, vae.latent_dim), torch.eye(vae.latent_dim)]).double()
    decoded = vae.decode(units).mean.flatten(1)
    return (decoded[1:] - decoded[0]).T


def measure(vae: VAE, x: Tensor) -> tuple[float, float, int]:
    """Return the rate in nats, the squared error summed over pixels, and the number of active units.

    They are exact, because the decoder is affine.
    """
    q = vae.encode(x)
    rate = (0.5 * (q.mean.square() + q.variance - 1 - q.variance.log())).sum(1).mean()
    error = (x - vae.decode(q.mean).mean).flatten(1).square().sum(1) + q.variance @ columns(vae).square().sum(0)
    return rate.item(), error.mean().item(), int((q.mean.var(0, correction=0) > 0.01).sum())


def draw_water(axes: Axes, values: Tensor, cells: Cells) -> None:
    """Draw the eigenvalues of the data, and the water level and unit variances of some cells."""
    shown = 36
    axes.bar(range(1, shown + 1), values[:shown], color="0.82", label="eigenvalue λ of the digits")
    for (latent_dim, beta), colour in LEVELS.items():
        theta = beta * SIGMA2
        variances = columns(cells[latent_dim, beta]).square().sum(0).sort(descending=True).values + theta
        axes.axhline(theta, color=colour, linewidth=1)
        axes.text(shown + 0.6, theta * 1.05, f"θ at β = {beta:g}", color=colour, ha="right", va="bottom")
        label = f"|w|² + θ of {latent_dim} learned units"
        axes.plot(range(1, latent_dim + 1), variances, "o", color=colour, markersize=4.5, label=label)
    axes.set(yscale="log", xlim=(0, shown + 1), ylim=(0.008, 1.5), xlabel="component or unit", ylabel="variance")
    axes.set_title("β is a water level: units below it are off")
    axes.legend(frameon=False, loc="upper right")


def draw_rates(axes: Axes, values: Tensor, cells: Cells, x: Tensor) -> None:
    """Draw the rate against beta: exact and measured."""
    betas = np.geomspace(0.3, 11, 200)
    for latent_dim, colour in COLOURS.items():
        exact = [optimum(Spectrum(values, values), latent_dim, beta, SIGMA2).rate for beta in betas]
        width = 1.5 + 0.12 * latent_dim  # curves that coincide stay visible
        axes.plot(betas, exact, color=colour, linewidth=width, label=f"{latent_dim} latents")
        rates = {beta: measure(vae, x)[0] for (size, beta), vae in cells.items() if size == latent_dim}
        axes.plot(list(rates), list(rates.values()), "o", color=colour, markeredgecolor="black", markersize=7, zorder=3)
    axes.set(xscale="log", yscale="log", xlabel="β", ylabel="rate, nats per image")
    axes.set_xticks([0.37, 1, 2.5, 6.5, 9], ["0.37", "1", "2.5", "6.5", "9"])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    axes.set_yticks([], minor=True)
    axes.set_title("rate: exact (lines) and measured (dots)")
    axes.legend(frameon=False)


def draw_components(figure: SubFigure, vectors: Tensor, cells: Cells) -> None:
    """Draw principal components, and the decoder's columns of some cells with their cosines to the components."""
    rows = figure.subplots(1 + len(SHOWN), COLUMNS)
    components, names = vectors[:, :COLUMNS].clone(), ["components", *(f"units, β = {beta:g}" for _, beta in SHOWN)]
    for row, cell in zip(rows, (None, *SHOWN), strict=True):
        images, cosines = components, torch.ones(COLUMNS)
        if cell is not None:
            learned = columns(cells[cell])
            learned = learned[:, learned.norm(dim=0).argsort(descending=True)][:, :COLUMNS]
            images = learned / learned.norm(dim=0)
            cosines = (images * components).sum(0)
        for axes, image, cosine in zip(row, images.T, cosines, strict=True):
            limit = float(image.abs().max())
            axes.imshow(image.reshape(8, 8) * cosine.sign(), cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            if cell is not None:
                axes.set_xlabel(f"{cosine.abs():.3f}", labelpad=2)
    for row, name in zip(rows, names, strict=True):
        row[0].set_ylabel(name)
    figure.suptitle("units are principal components, up to sign (cosines below)")


def draw_factors(axes: Axes, ours: Tensor, theirs: Tensor) -> None:
    """Draw the sigmas of pixels by the VAE against those by scikit-learn."""
    ends = [0.9 * float(theirs.min()), 1.1 * float(theirs.max())]
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.plot(theirs, ours, "o", color="#0072B2", markersize=5, alpha=0.8)
    ticks = [0.03, 0.05, 0.1]
    for name in ("x", "y"):
        axes.set(**{f"{name}scale": "log"})
        getattr(axes, f"set_{name}ticks")(ticks, [f"{tick:g}" for tick in ticks])
        getattr(axes, f"set_{name}ticks")([], minor=True)
    axes.set(xlabel="σ of a pixel, scikit-learn's FactorAnalysis", ylabel="σ of a pixel, linear VAE", aspect="equal")
    axes.set_title("a σ for every pixel: factor analysis")


def main(arguments: list[str]) -> None:
    """Train, print and draw."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder = Path(given.get("folder", "outputs/linear")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cells, seconds = train_cells(folder)
    sigmas = train_factor_analysis(folder)
    x = digits().train.images.double() / 255
    values, vectors = torch.linalg.eigh(torch.cov(x.flatten(1).T, correction=0))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)

    figure = Figure(figsize=(12, 8.4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subfigures(2, 2, wspace=0.03, hspace=0.04)
    with torch.no_grad():
        print("| beta | latents | theta | active | exact | rate | exact | squared error | exact | seconds |")
        for latent_dim, beta in sorted(cells, key=lambda cell: cell[::-1]):
            best = optimum(Spectrum(values, values), latent_dim, beta, SIGMA2)
            rate, error, active = measure(cells[latent_dim, beta], x)
            numbers = (f"{number:.4f}" for number in (rate, best.rate, error, best.error))
            row = (f"{beta:g}", latent_dim, f"{beta * SIGMA2:.4f}", active, best.active, *numbers)
            print("|", " | ".join(map(str, row)), f"| {seconds[latent_dim, beta]:.0f} |")
        draw_water(panels[0, 0].subplots(), values, cells)
        draw_rates(panels[0, 1].subplots(), values, cells, x)
        draw_components(panels[1, 0], vectors, cells)
        draw_factors(panels[1, 1].subplots(), *sigmas)
    figure.savefig(given.get("out", "linear.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
