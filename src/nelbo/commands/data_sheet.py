"""A contact sheet of a data set: training images as the model sees them."""

from __future__ import annotations

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nelbo.data.arrays import UNLABELLED
from nelbo.data.module import ImageData
from nelbo.views.grids import square

ROWS, COLUMNS = 10, 16


def contact_sheet(data: ImageData) -> Figure:
    """Return a figure of training images: a row for each class, where there are classes."""
    train = data.splits["train"]
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(train), generator=generator)
    labels = train.labels if train.indices is None else train.labels[train.indices]
    classes = sorted(set(labels.tolist()) - {UNLABELLED})[:ROWS]
    rows = [order[labels[order] == label][:COLUMNS] for label in classes]
    rows = [row for row in rows if len(row) == COLUMNS] or [order[: COLUMNS * ROWS]]
    chosen = torch.cat(rows)[: ROWS * COLUMNS]
    columns = min(COLUMNS, len(chosen))
    chosen = chosen[: len(chosen) // columns * columns]
    images = data.present("train", train.__getitems__(chosen), epoch=0).x
    values = data.value_range(data.starting_batch())
    picture = square(images, columns, values=values).movedim(0, 2)
    height, width = picture.shape[:2]
    figure = Figure(figsize=(width / 80 + 2, height / 80 + 0.5), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    named = len(chosen) == COLUMNS * len(classes) and len(rows) > 1
    step = height * columns / len(chosen)
    names = [data.classes[label] if data.classes else str(label) for label in classes] if named else []
    axes.set_yticks([(row + 0.5) * step for row in range(len(names))], names, parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{data.name} ({data.protocol}): training images as the model sees them", parse_math=False)
    return figure
