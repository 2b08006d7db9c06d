"""The pictures `by_class` and `every_class`, of models that are conditioned on a class.

Shapes: B images, K classes, C H W image.
"""

from __future__ import annotations

import torch

from nelbo.errors import ConfigError, positive_integer
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet
from nelbo.views.conditions import class_name, samples_by_class, shown_classes, with_every_class
from nelbo.views.grids import grid


class ByClass(Picture):
    """Means of p(x|z, y) for every class y, a row each; the samples of a column have the same noise.

    Arrays: x (K, columns, C, H, W), classes (K,).

    Args:
        columns: samples of each class.
    """

    takes_conditions = True

    def __init__(self, *, columns: int) -> None:
        self.columns = positive_integer("columns", columns)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        names = class_names(scene)
        x = samples_by_class(scene.model, scene.any_context(1), self.columns, torch.initial_seed() % 2**32)
        picture = grid(x)
        title = f"{scene.name}: means of p(x|z, y) at z ~ p(z), a class y in each row"
        sheet = Sheet((picture.shape[1], picture.shape[2]), title, rows=names)
        return Drawing(sheet(picture), {"x": x, "classes": torch.tensor(shown_classes(scene.model))})


class EveryClass(Picture):
    """Images, evenly spread over a split, and their codes decoded with every class: what z has beside the class.

    Arrays: x (B, 1 + K, C, H, W), with the images first, classes (K,), labels (B,).

    Args:
        rows: B.
    """

    takes_conditions = True

    def __init__(self, *, rows: int) -> None:
        self.rows = positive_integer("rows", rows)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        names = class_names(scene)
        positions = scene.evenly_spaced(self.rows)
        x = with_every_class(scene.model, scene.take(positions), scene.context(positions))
        picture = grid(x)
        title = f"{scene.name}: {scene.split} images, and their codes decoded with every class"
        sheet = Sheet((picture.shape[1], picture.shape[2]), title, columns=["input", *names])
        arrays = {"classes": torch.tensor(shown_classes(scene.model)), "labels": scene.images.labels[positions]}
        return Drawing(sheet(picture), {"x": x, **arrays})


def class_names(scene: Scene) -> list[str]:
    """Return the names of the classes that are shown.

    Raises:
        ConfigError: if the model is not conditioned on a class.
    """
    name = class_name(scene.model)
    if name is None or name not in scene.model.context_names:
        raise ConfigError("run", scene.name, "is not conditioned on a class that is not bound; see conditioning=label")
    numbers = shown_classes(scene.model)
    known = scene.classes if name == "label" else ()
    return [known[number] if number < len(known) else str(number) for number in numbers]
