"""Pictures, in the loggers that show them, of what the model reconstructs and generates.

Shapes: C image channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from nelbo.data.run_data import RunData
from nelbo.errors import positive_integer
from nelbo.models import Context, Model, axes_of
from nelbo.numerics.randomness import isolated
from nelbo.pictures.latent import aggregate_posterior, manifold, reconstructions, traversals
from nelbo.pictures.level_reconstructions import level_reconstructions
from nelbo.pictures.level_samples import level_samples
from nelbo.pictures.levels import chosen_numbers, decode
from nelbo.trace import Trace
from nelbo.training.batches import given_context
from nelbo.training.callbacks.writer import averaged_weights, data_of, draws, log_picture, model_of
from nelbo.views import settings
from nelbo.views.conditions import at_first, class_name, given, sample_context, samples_by_class, with_every_class
from nelbo.views.figures import as_picture
from nelbo.views.grids import ValueRange, as_pictures, grid, joined, square
from nelbo.views.level_kls import map_rows

COLUMNS = 8
TRAVERSED_UNITS, TRAVERSED_EXAMPLES = 8, 512
SHARED_ROWS = 3
SETTINGS_EXAMPLES, SETTINGS_ROWS = 500, 4
MAPPED_EXAMPLES = 128
MANIFOLD_SIDE = 16
AGGREGATE_EXAMPLES = 2000
SEED = 0


class Shown(NamedTuple):
    """A picture for the loggers.

    Args:
        name: below `pictures/`.
        picture: (C, height, width) in [0, 1].
        text: what it shows.
    """

    name: str
    picture: Tensor
    text: str


class Pictures(pl.Callback):
    """Logs reconstructions, samples, traversals and the aggregate posterior; with two latents also the manifold.

    Of a model that is trained for many settings it also logs rate and distortion at each, and reconstructions.

    Of a model with several levels it also logs reconstructions from the upper levels, samples that share their upper
    levels and, if there are maps of latents, where their KL is. The pictures of latents are those of the top level.

    The noise is the same every time, so that differences between steps are those of the model.

    Args:
        every_n_epochs: number of epochs between pictures; there are always some after the first and the last epoch.
    """

    def __init__(self, *, every_n_epochs: int) -> None:
        self.every_n_epochs = positive_integer("every_n_epochs", every_n_epochs)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the pictures, if they are due."""
        epoch = trainer.current_epoch + 1
        ends = trainer.should_stop or epoch == trainer.max_epochs
        if not draws(trainer) or (epoch % self.every_n_epochs and epoch != 1 and not ends):
            return
        model, data = model_of(pl_module), data_of(trainer)
        if data.table:  # its rows are no pictures
            return
        model.eval()
        with torch.no_grad(), isolated(SEED), averaged_weights(pl_module):
            for name, picture, text in pictures(model, data, pl_module.device):
                log_picture(trainer, f"pictures/{name}", picture, text)
        model.train()


def pictures(model: Model, data: RunData, device: torch.device) -> Iterator[Shown]:
    """Yield the pictures of a model in eval mode."""
    x, context = examples(model, data, 4 * COLUMNS, device)
    pairs = reconstructions(given(model, context), x, COLUMNS)
    yield Shown("reconstructions", pairs, "held-out inputs, each above its reconstruction")
    yield from pictures_of_samples(model, x, context)
    yield from pictures_of_settings(model, data, device)
    if len(model.events) > 1:
        yield from pictures_of_levels(model, data, device)
    yield from pictures_of_latents(model, data, device)


def pictures_of_latents(model: Model, data: RunData, device: torch.device) -> Iterator[Shown]:
    """Yield pictures of the latents, of several levels those of the top level."""
    of = "" if len(model.events) == 1 else " of the top level"
    x, context = examples(model, data, TRAVERSED_EXAMPLES, device)
    one = at_first(model, context)
    moved = traversals(one, x, TRAVERSED_UNITS, COLUMNS, given(model, context))
    yield Shown("traversals", moved, f"one latent unit{of} varied in each row, the most active ones")
    if model.events[0] == (2,):
        yield Shown("manifold", manifold(one, MANIFOLD_SIDE), f"quantiles of the prior of both units{of}")
    if len(model.events[0]) == 1 and model.events[0][0] > 1:
        x, context = examples(model, data, AGGREGATE_EXAMPLES, device)
        labels = data.examples(AGGREGATE_EXAMPLES).labels
        codes = aggregate_posterior(given(model, context), x, labels, data.classes)
        yield Shown("aggregate_posterior", codes, f"means of q(z|x){of} of held-out inputs, by label, over the prior")


def examples(model: Model, data: RunData, count: int, device: torch.device) -> tuple[Tensor, Context]:
    """Return held-out images (B, C, H, W), and what the model is conditioned on of each, (B, ...), on a device."""
    batch = data.examples(count).to(device)
    return batch.x, given_context(model, batch)


def pictures_of_samples(model: Model, x: Tensor, context: Context) -> Iterator[Shown]:
    """Yield pictures of samples from the prior, by class if the model is conditioned on one.

    Args:
        model: the model.
        x: held-out images, (B, C, H, W).
        context: what the model is conditioned on of each.
    """
    if class_name(model) is not None:
        samples = grid(samples_by_class(model, context, COLUMNS, SEED), values=model.value_range)
        yield Shown("samples_by_class", samples, "a row has one class, a column the same noise")
        decoded = with_every_class(model, x[:COLUMNS], {name: value[:COLUMNS] for name, value in context.items()})
        rows = grid(decoded, values=model.value_range)
        yield Shown("reconstructions_with_every_class", rows, "the input is on the left")
        return
    conditions = sample_context(model, context, COLUMNS * COLUMNS, COLUMNS)
    drawn = given(model, conditions).generate(COLUMNS * COLUMNS)
    where = " at the conditions of held-out images" if conditions else ""
    samples = square(drawn.mean, COLUMNS, values=model.value_range)
    yield Shown("samples", samples, f"means of p(x|z) of z from the prior{where}")


def pictures_of_settings(model: Model, data: RunData, device: torch.device) -> Iterator[Shown]:
    """Yield pictures of the settings of a model that is trained for many; none for other models."""
    axes = axes_of(model)
    if not axes:
        return
    x = data.examples(SETTINGS_EXAMPLES).x
    measured = settings.points(model, x.to(device), axes, SEED)
    plane = as_picture(settings.plane(measured))
    yield Shown("rate_distortion", plane, f"rate and distortion at each setting, of {len(x)} held-out images")
    images = settings.reconstructions(model, x[:SETTINGS_ROWS].to(device), axes)
    by_setting = as_picture(settings.labelled(images, axes, model.value_range))
    yield Shown("reconstructions_by_setting", by_setting, "reconstructions at each setting")


def pictures_of_levels(model: Model, data: RunData, device: torch.device) -> Iterator[Shown]:
    """Yield pictures of what each level of a model with several levels contributes."""
    levels = len(model.events)
    x, context = examples(model, data, COLUMNS, device)
    upper = chosen_numbers(None, levels)
    means = level_reconstructions(given(model, context), x, upper)
    rows = grid(torch.cat([x.unsqueeze(0), means]), values=model.value_range)
    text = f"the input, then its reconstructions from the {_listed(upper)} upper levels, a row each"
    yield Shown("reconstructions_by_level", rows, text)
    upper = chosen_numbers(None, levels - 1)
    one = at_first(model, context)
    shared = level_samples(one, SHARED_ROWS, COLUMNS, upper)
    blocks = [grid(decode(one, *zs), values=model.value_range) for zs in shared]
    text = f"samples from the prior; those in a row of a block share their {_listed(upper)} upper levels"
    yield Shown("samples_by_level", joined(blocks, dim=1), text)
    if any(len(event) == 3 for event in model.events):
        x, context = examples(model, data, MAPPED_EXAMPLES, device)
        maps = kl_maps(model.trace(x, context=context), COLUMNS, model.value_range)
        if maps is not None:
            yield Shown("kl_maps", maps, "KL of each place of the maps of latents: average, then images; a level a row")


def kl_maps(trace: Trace, columns: int, values: ValueRange = None) -> Tensor | None:
    """Draw maps of the KL of each level of maps, of the average of all images and of single ones.

    Args:
        trace: of images (B, C, H, W).
        columns: columns of the picture, the first of which is the average.
        values: the values of x that are black and white.

    Returns:
        The picture, or None if the KL of single places is not defined.
    """
    try:
        maps = [latent.kl_map for latent in trace.latents if latent.z.ndim == 5]
    except NotImplementedError:  # q or p does not factorise
        return None
    x = as_pictures(trace.x, values)
    average = map_rows(x.mean(dim=0, keepdim=True), [places.mean(dim=0, keepdim=True) for places in maps])
    singles = map_rows(x[: columns - 1], [places[: columns - 1] for places in maps])
    return joined([grid(average), grid(singles)], dim=2)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
