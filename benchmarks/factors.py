"""Objectives that encourage independent latent units, on images with known factors.

    python benchmarks/factors.py folder=outputs/factors [out=total_correlation.png] [epochs=100]

Draws 10,368 images into FOLDER/factors.npz, trains a small model for each setting, one after another on one thread,
and measures it on the training images. Runs and measurements that exist in `folder` are not repeated. Prints the table
of docs/results.md, and draws it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nelbo.evaluation import ELBO, ActiveUnits, Disentanglement, TotalCorrelation
from nelbo.evaluation.measure import Subject
from nelbo.finished.run import FinishedRun

ROOT = Path(__file__).parents[1]
SIZE = 32
FACTORS = {
    "shape": np.arange(3.0),
    "scale": np.linspace(0.5, 1, 3),
    "orientation": np.linspace(0, 2 * np.pi, 8, endpoint=False),
    "x": np.linspace(0, 1, 12),
    "y": np.linspace(0, 1, 12),
}
"""The factors of dSprites (Matthey et al. 2017) with their values, of which there are fewer here."""

RADIUS = 6.0
"""Pixels from the centre of a square of scale 1 to its side."""

SUBSAMPLES = 4
"""Points per pixel and axis at which a shape is sampled."""

Values = dict[str, float]
DIGITS = {"moments": 3, "active_units": 0, "seconds": 0}
"""The number of decimals of a column of the table; 2 for other columns."""


def render(shape: float, scale: float, orientation: float, x: float, y: float) -> np.ndarray:
    """Return which pixels the shape covers by half or more, (SIZE, SIZE); as in dSprites without antialiasing."""
    points = (np.arange(SIZE * SUBSAMPLES) + 0.5) / SUBSAMPLES
    margin = SIZE / 4
    right, down = (points - (margin + (SIZE - 2 * margin) * place) for place in (x, y))
    turned = np.exp(-1j * orientation) * (right - 1j * down[:, None]) / (RADIUS * scale)
    u, v = turned.real, turned.imag
    if shape == 0:
        inside = np.maximum(abs(u), abs(v)) <= 1
    elif shape == 1:
        inside = (u / 1.2) ** 2 + (v / 0.7) ** 2 <= 1
    else:
        inside = (u**2 + v**2 - 1) ** 3 <= u**2 * v**3
    covered = inside.reshape(SIZE, SUBSAMPLES, SIZE, SUBSAMPLES).mean((1, 3))
    return covered >= 0.5


def write(path: Path) -> None:
    """Write images of all combinations of factors in the format of `data=arrays`, with the factors (N, 5)."""
    grids = np.meshgrid(*[np.arange(len(values)) for values in FACTORS.values()], indexing="ij")
    factors = np.stack([grid.ravel() for grid in grids], axis=1)
    columns = [values[column] for values, column in zip(FACTORS.values(), factors.T, strict=True)]
    images = np.stack([render(*row) for row in zip(*columns, strict=True)])
    np.savez_compressed(path, images=images, labels=factors[:, 0], factors=factors)


@dataclass(frozen=True, eq=False)
class Family:
    """The settings of one objective, in the order of its weight.

    Args:
        name: the name in the table and the picture.
        objective: the value of `objective=...`.
        weight: the name of the weight that differs between settings.
        settings: the overrides of each run, by the value of the weight.
        colour: the colour in the picture.
    """

    name: str
    objective: str
    weight: str
    settings: Mapping[str, tuple[str, ...]]
    colour: str


def swept(key: str, *values: float) -> dict[str, tuple[str, ...]]:
    """Return a setting for each value of one weight."""
    return {f"{value:g}": (f"objective.{key}={value:g}",) for value in values}


def quick(*gammas: float) -> dict[str, tuple[str, ...]]:
    """Return settings of `objective=factor` with ten times the discriminator's learning rate, for short training."""
    runs = swept("gamma", *gammas)
    return {gamma: (*overrides, "objective.discriminator_lr=1e-3") for gamma, overrides in runs.items()}


def dip(variant: str, off_diagonal: float, diagonal: float) -> tuple[str, ...]:
    """Return the overrides of `objective=dip`."""
    weights = (f"objective.lambda_off_diagonal={off_diagonal:g}", f"objective.lambda_diagonal={diagonal:g}")
    return f"objective.variant={variant}", *weights


BETA_VAE = Family("beta-VAE", "elbo", "beta", swept("beta", 1, 1.5, 2, 4, 6), "0.3")
FAMILIES = (
    BETA_VAE,
    Family("beta-TC-VAE", "beta_tc", "beta", swept("beta", 2, 4), "#0072B2"),
    Family("FactorVAE", "factor", "gamma", swept("gamma", 10), "#D55E00"),
    Family("FactorVAE-quick", "factor", "gamma", quick(10, 40), "#E69F00"),
    Family("DIP-VAE-I", "dip", "lambda", {"10": dip("i", 10, 100)}, "#009E73"),
    Family("DIP-VAE-II", "dip", "lambda", {"10": dip("ii", 10, 10)}, "#CC79A7"),
)


def train(folder: Path, family: Family, setting: str, epochs: int) -> Path:
    """Train a setting unless its run exists, and return the directory of the run."""
    run = folder / f"{family.name}-{setting}"
    if not (run / "metrics.json").exists():
        overrides = (
            "model=tanh_mlp_vae", "model.latent_dim=10", f"objective={family.objective}", *family.settings[setting],
            "data=arrays", f"data.path={folder / 'factors.npz'}", "data.levels=2", "likelihood=bernoulli",
            f"trainer.max_epochs={epochs}", "budget.validate_every_n_epochs=10", "threads=1", "callbacks=none",
            "logger=none", f"hydra.run.dir={run}",
        )  # fmt: skip
        subprocess.run([sys.executable, "train.py", *overrides], cwd=ROOT, check=True)
    return run


def correlation_of_moments(subject: Subject) -> float:
    """Return the total correlation in nats of a Gaussian with the correlations R of codes z ~ q(z): -1/2 log det R."""

    @torch.no_grad()
    def draw(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"z": subject.model.encode(x).sample()}

    return float(-0.5 * torch.logdet(torch.corrcoef(subject.map("codes", draw)["z"].double().T)))


def measure(run: Path, factors: torch.Tensor) -> Values:
    """Measure a run on the training images, which are nearly all images, and return the values.

    They are stored in the directory of the run and read from there the next time.
    """
    file = run / "factors.json"
    if not file.exists():
        finished = FinishedRun.open(run)
        splits = finished.data.splits
        splits["train"] = replace(splits["train"], factors=factors)
        subject = finished.subject(split="train", device="cpu")
        measures = (
            ELBO(num_samples=1, limit=None),
            TotalCorrelation(num_samples=1, limit=None),
            ActiveUnits(limit=None),
            Disentanglement(limit=None, num_bins=20, num_votes=1000, examples_per_vote=64),
        )
        values: dict[str, object] = {}
        for one in measures:
            findings = one(subject)
            values |= findings.values
            print(run.name, *findings.warnings, sep="\n    ", file=sys.stderr)
        values["moments"] = correlation_of_moments(subject)
        values["seconds"] = json.loads((run / "metrics.json").read_text())["train_seconds"]
        file.write_text(json.dumps(values))
    content: Values = json.loads(file.read_text())
    return content


def at_reconstruction(reference: list[Values], value: float) -> float:
    """Return the total correlation that models of `reference` have at a reconstruction.

    Its logarithm, which is nearly linear in the reconstruction, is interpolated; nan outside the range of `reference`.
    """
    points = sorted((one["distortion"], np.log(one["total_correlation"])) for one in reference)
    return float(np.exp(np.interp(value, *zip(*points, strict=True), left=np.nan, right=np.nan)))


def print_table(results: dict[Family, dict[str, Values]]) -> None:
    """Print the values of all settings as a Markdown table."""
    columns = {
        "reconstruction": "distortion",
        "rate": "rate",
        "I(x; z)": "index_code_mutual_information",
        "TC": "total_correlation",
        "TC of the beta-VAE there": "there",
        "TC of moments": "moments",
        "dimension-wise KL": "dimension_wise_kl",
        "MIG": "mig",
        "DCI": "dci_disentanglement",
        "SAP": "sap",
        "FactorVAE score": "factor_vae_score",
        "active units": "active_units",
        "seconds": "seconds",
    }
    print("|", "", "|", " | ".join(columns), "|")
    print("|---" * (1 + len(columns)) + "|")
    reference = list(results[BETA_VAE].values())
    for family, runs in results.items():
        for setting, values in runs.items():
            there = np.nan if family is BETA_VAE else at_reconstruction(reference, values["distortion"])
            numbers = {**values, "there": there}
            row = [f"{numbers[key]:.{DIGITS.get(key, 2)}f}".replace("nan", "") for key in columns.values()]
            print("|", f"{family.name}, {family.weight} {setting}", "|", " | ".join(row), "|")


def draw(axes: Axes, results: dict[Family, dict[str, Values]], key: str) -> None:
    """Draw one value against the reconstruction, a line for each family."""
    for family, runs in results.items():
        x, y = ([values[name] for values in runs.values()] for name in ("distortion", key))
        axes.plot(x, y, "o-", color=family.colour, linewidth=2 if family is BETA_VAE else 1.2, label=family.name)
        for setting, *point in zip(runs, x, y, strict=True):
            axes.annotate(setting, point, (4, 4), textcoords="offset points", color=family.colour, fontsize=9)
    axes.set_xlabel("reconstruction, -log p(x|z), nats per image")


def draw_all(results: dict[Family, dict[str, Values]], out: str) -> None:
    """Draw the total correlation and the mutual information gap into a file."""
    figure = Figure(figsize=(11, 4.6), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    draw(left, results, "total_correlation")
    left.set(ylabel="total correlation, nats", title="lower means more independent units", yscale="log")
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    left.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_yticks([], minor=True)
    draw(right, results, "mig")
    right.set(ylabel="mutual information gap", title="higher means that a factor has a unit of its own")
    right.set_ylim(bottom=0)
    left.legend(frameon=False)
    figure.savefig(out)


def main(arguments: list[str]) -> None:
    """Train, measure, print and draw."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    folder = Path(given.get("folder", "outputs/factors")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "factors.npz"
    if not data.exists():
        write(data)
    with np.load(data) as content:
        factors = torch.from_numpy(content["factors"])
    torch.set_num_threads(1)
    results: dict[Family, dict[str, Values]] = {}
    for family in FAMILIES:
        runs = {setting: train(folder, family, setting, int(given.get("epochs", 100))) for setting in family.settings}
        results[family] = {setting: measure(run, factors) for setting, run in runs.items()}
    print_table(results)
    draw_all(results, given.get("out", "total_correlation.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", metavar="key=value")
    main(parser.parse_args().arguments)
