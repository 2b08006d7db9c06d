"""One run in one picture: its learning curves, reconstructions, samples, and traversals with the KL of their units.

python train.py model=conv_vae data=mnist
python scripts/overview.py run=<run> out=run.png
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.directories.logs import HISTORY
from nelbo.errors import NelboError
from nelbo.finished.run import FinishedRun
from nelbo.numerics.randomness import isolated
from nelbo.pictures.latent import moved, prior_quantiles
from nelbo.views.codes import modes
from nelbo.views.grids import grid

COLUMNS, SAMPLE_ROWS, UNITS, SEED = 10, 3, 5, 0
SIZE, DPI = (10, 13.4), 100
"""Inches, and pixels per inch. At the width of a phone, 390 pixels, text of 25 points is about as high as 13 pixels."""

TEXT, SMALL, LINE = 25, 20, "#3b6ea8"
COLOURS = 128
"""Colours of the file, which makes it a third as large."""

CURVES = {"val/nelbo": "negative ELBO", "val/reconstruction": "−log p(x|z)", "val/kl": "KL"}


def draw(run: FinishedRun, out: Path) -> None:
    """Draw the picture, from above: curves, reconstructions, samples, traversals."""
    rows, model = history(run), run.model
    x = run.data.examples(COLUMNS).x
    kl = torch.tensor(run.unit_kl_history[max(run.unit_kl_history)])
    units = kl.argsort(descending=True)[:UNITS]
    with torch.no_grad(), isolated(SEED):
        means = model.decode(*modes(model, x)).mean
        samples = model.generate(SAMPLE_ROWS * COLUMNS).mean.unflatten(0, (SAMPLE_ROWS, COLUMNS))
        codes = moved(modes(model, x[:1])[0][0], units, prior_quantiles(model, COLUMNS))
        varied = model.decode(codes.flatten(0, 1)).mean.unflatten(0, (len(units), COLUMNS))
    figure = Figure(figsize=SIZE, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12))
    parts = figure.subfigures(4, 1, height_ratios=[3.6, 2.9, 3.9, 5.9], hspace=0.02)
    draw_curves(parts[0], rows)
    draw_grid(parts[1], "reconstructions, each below its input", torch.stack([x, means]))
    draw_grid(parts[2], "samples from the prior", samples)
    names = [f"{float(kl[unit]):.1f} nats" for unit in units]
    draw_grid(parts[3], f"{len(units)} of {len(kl)} latent units varied, and their KL", varied, names)
    out.parent.mkdir(parents=True, exist_ok=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(COLOURS).save(out, optimize=True)


def history(run: FinishedRun) -> list[dict[str, float]]:
    """Return the validation metrics of each epoch.

    Raises:
        NelboError: if the run has none, or its model has no ELBO or no KL of single units.
    """
    file = run.folder / HISTORY
    if not file.is_file() or not run.unit_kl_history or len(run.model.events) > 1:
        raise NelboError(f"run={run.folder}: needs {HISTORY} and the KL of each unit, of a model of one level")
    with file.open(newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def draw_curves(part: SubFigure, rows: list[dict[str, float]]) -> None:
    """Draw a panel for each curve, with its last value."""
    epochs = [row["epoch"] for row in rows]
    panels: list[Axes] = list(part.subplots(1, len(CURVES)))
    for panel, (name, title) in zip(panels, CURVES.items(), strict=True):
        values = [row[name] for row in rows]
        panel.plot(epochs, values, "o-", color=LINE, linewidth=3, markersize=6)
        panel.set_title(f"{title}\n{values[-1]:.1f} nats".replace("-", "−"), fontsize=TEXT)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=SMALL, length=4)
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(3))
        panel.set_xlabel("epoch", fontsize=SMALL)


def draw_grid(part: SubFigure, title: str, images: Tensor, names: list[str] | None = None) -> None:
    """Draw rows of images, with a name at the right of each row."""
    picture = grid(images).permute(1, 2, 0).numpy()
    panel = part.add_subplot()
    panel.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
    panel.set_title(title, fontsize=TEXT, loc="left")
    panel.set_anchor("W")
    panel.spines[:].set_visible(False)
    panel.set_xticks([])
    panel.yaxis.tick_right()
    middles = [(row + 0.5) * picture.shape[0] / len(images) for row in range(len(images))] if names else []
    panel.set_yticks(middles, names or [], fontsize=SMALL)
    panel.tick_params(length=0)


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser("overview", "run=RUN out=FILE.png", __doc__ or "")
    made.key("run", "RUN", "a finished run", required=True)
    made.key("out", "FILE", "the picture", required=True)
    return made


def main() -> None:
    """Read the command line and draw; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        given = vars(parser().read(arguments)[0])
        draw(FinishedRun.open(given["run"], key="run"), Path(given["out"]))
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
