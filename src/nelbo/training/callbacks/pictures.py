"""What the model sees and makes, as pictures in TensorBoard.

Shapes: B batch, D latent dimensions, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from nelbo.data.module import ImageData
from nelbo.distributions import DiagonalNormal, StandardNormal, mean_of
from nelbo.errors import positive_integer
from nelbo.models import VAE
from nelbo.training.callbacks.board import data_of, model_of, writers
from nelbo.training.callbacks.grids import grid, normal_quantiles, square
from nelbo.training.callbacks.scatter import draw_codes

COLUMNS = 8
TRAVERSED_UNITS = 8
MANIFOLD_SIDE = 16
AGGREGATE_EXAMPLES = 5000
PRIOR_SAMPLES = 2000
SEED = 0


class Pictures(pl.Callback):
    """Reconstructions, samples, traversals; for two latents also the manifold and the aggregate posterior.

    The noise is the same every time, so that a slider over the steps shows the model change and nothing else.

    Args:
        every_n_epochs: how often; always after the first and the last epoch too.
    """

    def __init__(self, *, every_n_epochs: int) -> None:
        self.every_n_epochs = positive_integer("every_n_epochs", every_n_epochs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, when due."""
        epoch = trainer.current_epoch + 1
        if not writers(trainer) or (epoch % self.every_n_epochs and epoch not in (1, trainer.max_epochs)):
            return
        model, data = model_of(pl_module), data_of(trainer)
        model.eval()
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[pl_module.device] if pl_module.device.type == "cuda" else []),
        ):
            torch.manual_seed(SEED)
            for name, picture in pictures(model, data, pl_module.device):
                for writer in writers(trainer):
                    writer.add_image(name, picture, trainer.global_step)
        model.train()


def pictures(model: VAE, data: ImageData, device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Names and pictures (C, height, width) in [0, 1]."""
    x, _ = data.examples(4 * COLUMNS)
    x = x.to(device)
    yield "reconstructions (input above its reconstruction)", reconstructions(model, x)
    yield "samples from the prior", square(model.generate(COLUMNS * COLUMNS).mean, COLUMNS)
    yield "latent traversals (most active units, one a row)", traversals(model, data, device)
    if model.latent_dim == 2:
        yield "manifold (quantiles of the prior)", manifold(model, device)
        yield "aggregate posterior (means, by label)", aggregate_posterior(model, data, device)


def reconstructions(model: VAE, x: Tensor) -> Tensor:
    """Each input above the mean of p(x|z) at the mean of q(z|x)."""
    means = model.decode(mean_of(model.encode(x))).mean
    columns = min(COLUMNS, len(x))
    rows = len(x) // columns
    pairs = torch.stack([part[: rows * columns].unflatten(0, (rows, columns)) for part in (x, means)], dim=1)
    return grid(pairs.flatten(0, 1))


def traversals(model: VAE, data: ImageData, device: torch.device) -> Tensor:
    """From the code of one example, each of the most active units moved over the quantiles of its prior."""
    means = mean_of(model.encode(data.examples(512)[0].to(device)))
    units = means.var(dim=0, correction=0).argsort(descending=True)[:TRAVERSED_UNITS]
    quantiles = prior_quantiles(model, COLUMNS, device)
    z = means[0].expand(len(units), COLUMNS, -1).clone()
    for row, unit in enumerate(units):
        z[row, :, unit] = quantiles[:, unit]
    return grid(model.decode(z).mean)


def prior_quantiles(model: VAE, count: int, device: torch.device) -> Tensor:
    """`count` points that cut each unit's prior into equal parts, between its 2.5% and 97.5% quantiles, (count, D).

    Exact for Gaussians; of any other prior they are those of samples.
    """
    prior = model.prior(model.encode)
    if isinstance(prior, DiagonalNormal):
        return prior.loc + prior.scale * normal_quantiles(count, device).unsqueeze(-1)
    samples: Tensor = prior.sample(torch.Size((PRIOR_SAMPLES,)))
    return samples.quantile(torch.linspace(0.025, 0.975, count, device=device), dim=0)


def manifold(model: VAE, device: torch.device) -> Tensor:
    """p(x|z).mean over a square of quantiles of the prior, for two latents (Kingma & Welling 2014, figure 4)."""
    quantiles = prior_quantiles(model, MANIFOLD_SIDE, device)
    vertical, horizontal = torch.meshgrid(quantiles[:, 1].flip(0), quantiles[:, 0], indexing="ij")
    return grid(model.decode(torch.stack([horizontal, vertical], dim=-1)).mean)


def aggregate_posterior(model: VAE, data: ImageData, device: torch.device) -> Tensor:
    """Means of q(z|x) coloured by label, and the prior: the circle that holds 95% of N(0, I), or samples of another."""
    x, labels = data.examples(AGGREGATE_EXAMPLES)
    figure = Figure(figsize=(6.4, 6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    prior = model.prior(model.encode)
    samples = None if isinstance(prior, StandardNormal) else prior.sample(torch.Size((PRIOR_SAMPLES,))).cpu()
    draw_codes(axes, mean_of(model.encode(x.to(device))).cpu(), labels, data.classes, samples)
    canvas.draw()
    image = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    return image.reshape(height, width, 4)[..., :3].permute(2, 0, 1).float() / 255
