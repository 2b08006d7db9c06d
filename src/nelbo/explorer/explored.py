"""A run that is explored: its model at a setting, the images of a split, and their codes.

Shapes: B images, D latents of the top level, U units of a level. KLs are in nats. Levels are numbered from the top,
which is level 1.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.models import Context, Model, axes_of
from nelbo.pictures import Images, Scene
from nelbo.pictures.interpolation import between
from nelbo.views.codes import has_classes, modes
from nelbo.views.conditions import at_first, class_name, given

if TYPE_CHECKING:
    from nelbo.finished.run import FinishedRun

KEPT = 16
"""Settings whose codes, and pairs of images whose codes, are kept in memory."""

STEPS = 101
"""Codes on the way from one image to another, with both ends."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a code belongs: the image with its condition, and the setting of a model that was trained for many.

    Args:
        image: position of the image, whose condition a conditional model is given.
        setting: what is bound, such as `{"beta": 0.5}`; empty for an ordinary model.
        label: the class in place of that of the image; None for the class of the image.
    """

    image: int
    setting: Mapping[str, float]
    label: int | None = None


class Explored:
    """A model and the images that it is explored with.

    Args:
        scene: the model in eval mode, and the images.

    Raises:
        ConfigError: if the codes of the model are classes, or there is no image.
    """

    def __init__(self, scene: Scene) -> None:
        refuse(scene.model, scene.name)
        if not len(scene.images):
            raise ConfigError("split", scene.split, "has no images", located=True)
        self.scene = scene
        self.axes = axes_of(scene.model)
        self.scene_at = functools.lru_cache(KEPT)(self._scene_at)
        self.codes = functools.lru_cache(KEPT)(self._codes)

    @property
    def model(self) -> Model:
        """The model, bound to no setting and no condition."""
        return self.scene.model

    @property
    def images(self) -> Images:
        """The images of the split."""
        return self.scene.images

    @property
    def label_name(self) -> str | None:
        """The name of the classes that the model is conditioned on; None without any."""
        return class_name(self.model)

    @property
    def label_count(self) -> int:
        """The number of classes that the model is conditioned on; 0 without any."""
        name, conditioning = self.label_name, self.model.conditioning
        return 0 if name is None or conditioning is None else conditioning.classes[name]

    def at(self, setting: Mapping[str, float]) -> Scene:
        """Return the scene with the model at a setting.

        Raises:
            ConfigError: if the model was not trained for the setting.
        """
        return self.scene_at(tuple(sorted(setting.items())))

    def _scene_at(self, setting: tuple[tuple[str, float], ...]) -> Scene:
        return replace(self.scene, model=self.model.at(**dict(setting))) if setting else self.scene

    def bound(self, place: Place) -> Model:
        """Return the model at a place, as one of z alone.

        Raises:
            ConfigError: if the model was not trained for the setting, or there is no such image or class.
        """
        scene = self.at(place.setting)
        context = dict(self.context(place.image))
        if place.label is not None and self.label_name is not None:
            context[self.label_name] = torch.tensor([place.label], device=scene.device)
        return at_first(scene.model, context)

    def context(self, image: int) -> Context:
        """Return the condition of an image, (1, ...) each; empty for a model of x alone."""
        return self.scene.context(self.scene.position(image))

    def encoder(self, place: Place) -> Model:
        """Return the model with all that is known of the image, to infer its code."""
        return given(self.at(place.setting).model, self.context(place.image))

    def _codes(self, image: int, setting: tuple[tuple[str, float], ...]) -> tuple[Tensor, ...]:
        """Return the modes of q(z|x) of an image by level, top first, (1, *event) each."""
        return modes(self.encoder(Place(image, dict(setting))), self.scene.take(self.scene.position(image)))

    def codes_of(self, place: Place) -> tuple[Tensor, ...]:
        """Return the modes of q(z|x) of an image by level, top first, (1, *event) each, under its own condition."""
        return self.codes(place.image, tuple(sorted(place.setting.items())))

    def codes_between(self, place: Place, other: int, step: int, path: str) -> tuple[Tensor, ...]:
        """Return codes on the way from one image to another by level, top first, (1, *event) each.

        Args:
            place: the first image.
            other: the second image.
            step: from 0, the first image, to `STEPS` - 1, the second.
            path: `linear` or `spherical`, as in `nelbo.pictures.interpolation`.
        """
        if step == 0:
            return self.codes_of(place)
        ends = zip(self.codes_of(place), self.codes_of(replace(place, image=other)), strict=True)
        return tuple(
            between(first.flatten(1), last.flatten(1), STEPS, path)[:, step].reshape(first.shape)
            for first, last in ends
        )


def refuse(model: Model, name: str) -> None:
    """Refuse a model whose codes are classes.

    Args:
        model: the model.
        name: the name of the run, for the error.

    Raises:
        ConfigError: if they are.
    """
    if not has_classes(model):
        return
    if model.inferred_names:
        hint = "infers a label, which is no number to drag; use nelbo draw every_class or nelbo draw by_class"
    else:
        hint = "has codes of classes, which are no numbers to drag; use nelbo draw traversal or nelbo draw samples"
    raise ConfigError("run", name, hint, located=True)


def open_explored(run: FinishedRun, *, split: str, device: str, batch_size: int) -> Explored:
    """Return a finished run as it is explored.

    Args:
        run: the run.
        split: `test`, `val` or `train`.
        device: as in `nelbo.finished.run.torch_device`.
        batch_size: images that are encoded at once.

    Raises:
        NelboError: if the run is not one of images, its codes are classes, or its data cannot be used.
    """
    if _is_table(run.record):
        hint = "was trained on a table, which has no pictures; use nelbo sample or nelbo impute"
        raise ConfigError("run", run.folder, hint, located=True)
    refuse(run.model, str(run.folder))
    subject = run.subject(split=split, device=device, batch_size=batch_size)

    def open_images() -> tuple[Images, Sequence[str]]:
        return subject.images, tuple(subject.classes)

    name = run.folder.resolve().name
    model = run.model.to(subject.device).eval()
    return Explored(Scene(name, model, subject.device, split, functools.cache(open_images), batch_size))


def _is_table(record: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint's record is that of a model of a table."""
    table = record.get("table")
    return isinstance(table, Mapping) and bool(table.get("columns"))
