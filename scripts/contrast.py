"""The contrast in one picture: codes and samples of a plain autoencoder beside those of a VAE, two latents each.

python train.py experiment=mnist_2d
python train.py experiment=mnist_2d model=autoencoder
python scripts/contrast.py vae=<run> autoencoder=<run> out=contrast.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nelbo
from nelbo.checkpoints.record import provenance
from nelbo.commands.parser import Parser, fail, prepared
from nelbo.config.comparison import incomparable
from nelbo.data import mnist
from nelbo.data.module import ONCE_FOR_TEST_ARRAY
from nelbo.data.noise import Draws
from nelbo.data.protocols import PROTOCOLS
from nelbo.errors import NelboError
from nelbo.models import VAE
from nelbo.pictures.scatter import draw_codes
from nelbo.views.grids import square

EXAMPLES, SIDE = 5000, 10


def draw(models: dict[str, VAE], trained: dict[str, Any], out: Path) -> None:
    """A column a model: above, means of q(z|x) on the test set; below, p(x|z).mean at z ~ N(0, I)."""
    raw = mnist().test.__getitems__(torch.arange(EXAMPLES))
    draws = Draws(trained["split_seed"], ONCE_FOR_TEST_ARRAY, raw.positions)
    x = PROTOCOLS[trained["protocol"]].present(raw.images, draws)
    figure = Figure(figsize=(11, 11), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(models))
    for column, (name, model) in enumerate(models.items()):
        torch.manual_seed(0)  # both decode the same z
        with torch.no_grad():
            px = model.generate(SIDE * SIDE)
            draw_codes(axes[0, column], model.encode(x).mean, raw.labels)
        axes[0, column].set_title(f"{name}: codes of test images")
        axes[1, column].imshow(square(px.mean, SIDE).squeeze(0), cmap="gray", vmin=0, vmax=1)
        axes[1, column].set_title(f"{name}: decoded z ~ N(0, I)")
        axes[1, column].set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser("contrast", "vae=RUN autoencoder=RUN out=FILE.png", __doc__ or "")
    made.key("vae", "RUN", "a run of a VAE with two latents", required=True)
    made.key("autoencoder", "RUN", "a run of a plain autoencoder with two latents", required=True)
    made.key("out", "FILE", "the picture", required=True)
    return made


def main() -> None:
    """Read the command line and draw; bad arguments end in one line and exit status 2."""
    arguments = prepared()
    try:
        given = vars(parser().read(arguments)[0])
        models = {"autoencoder": nelbo.load(given["autoencoder"]), "VAE": nelbo.load(given["vae"])}
        trained = {name: provenance(given[name.lower()]) for name in models}
        if problem := incomparable(trained):
            raise NelboError(problem)
        for name, model in models.items():
            if model.latent_dim != 2 or model.shape != (1, 28, 28):
                raise NelboError(
                    f"{name}: has {model.latent_dim} latents and images of {model.shape}; needs 2 on MNIST"
                )
        if trained["VAE"]["data_sha256"] != mnist().sha256():
            raise NelboError(f"the runs were trained on {trained['VAE']['data']}; the picture shows MNIST")
        draw(models, trained["VAE"], Path(given["out"]))
    except NelboError as error:
        fail(error)


if __name__ == "__main__":
    main()
