"""The interface of every picture: from a model, and images if needed, to a drawing.

Shapes: N images of a split, B batch, C H W image, D latent dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from nelbo.distributions.columns import OBSERVED
from nelbo.errors import ConfigError, integer
from nelbo.models import NO_CONTEXT, Context, Model
from nelbo.views.codes import has_classes, modes
from nelbo.views.conditions import given
from nelbo.views.images import Images, evenly_spaced


@dataclass(frozen=True, eq=False)
class Scene:
    """A model and the images of a split, from which pictures are drawn.

    Args:
        name: name of the model, for titles.
        model: in eval mode, on `device`.
        device: device of the model.
        split: name of the split, for titles.
        open_images: returns the images and the names of their classes; called when a picture first needs images:
            pictures of the prior need none.
        batch_size: images that are encoded at once.
    """

    name: str
    model: Model
    device: torch.device
    split: str
    open_images: Callable[[], tuple[Images, Sequence[str]]]
    batch_size: int

    @cached_property
    def _opened(self) -> tuple[Images, Sequence[str]]:
        return self.open_images()

    @property
    def images(self) -> Images:
        """The images of the split."""
        return self._opened[0]

    @property
    def classes(self) -> Sequence[str]:
        """The names of the labels; empty if unknown."""
        return self._opened[1]

    def evenly_spaced(self, count: int) -> Tensor:
        """Return at most `count` positions, evenly spread over the split."""
        return evenly_spaced(len(self.images), count)

    def take(self, positions: Tensor) -> Tensor:
        """Return the images at `positions` (B,), (B, C, H, W), on the model's device."""
        return self.images[positions].to(self.device)

    def context(self, positions: Tensor) -> Context:
        """Return what the model is conditioned on of the examples at `positions` (B,), on its device, (B, ...) each.

        It is empty for a model of x alone, which needs no data.
        """
        if not self._takes_data:
            return NO_CONTEXT
        names = [name for name in self.model.context_names if name not in self.model.inferred_names]
        context = self.images.context(positions, names)
        return {name: value.to(self.device) for name, value in context.items()}

    @property
    def _takes_data(self) -> bool:
        """Whether the model is given more of the data than x: a condition, or which entries of a row are observed."""
        names = self.model.context_names
        return bool(names) and (self.model.conditioning is not None or OBSERVED in names)

    def any_context(self, count: int) -> Context:
        """Return contexts of examples evenly spread over the split, as `context`."""
        return self.context(self.evenly_spaced(count)) if self._takes_data else NO_CONTEXT

    def given_batches(self, positions: Tensor) -> Iterator[tuple[Model, Tensor]]:
        """Yield the images at `positions`, up to `batch_size` at a time, each with the model of their conditions."""
        for part in positions.split(self.batch_size):
            yield given(self.model, self.context(part)), self.take(part)

    def batches(self, positions: Tensor) -> Iterator[Tensor]:
        """Yield the images at `positions`, up to `batch_size` at a time."""
        for part in positions.split(self.batch_size):
            yield self.take(part)

    def codes(self, positions: Tensor) -> tuple[Tensor, ...]:
        """Return the modes of q(z|x) of the images at `positions` by level, top first, (B, *event) each."""
        return by_level(modes(model, x) for model, x in self.given_batches(positions))

    def require_vectors(self, reason: str) -> None:
        """Raise an error if codes are one-hot.

        Args:
            reason: why the picture needs vectors; the end of the message.

        Raises:
            ConfigError: if codes are one-hot.
        """
        if has_classes(self.model):
            raise ConfigError("run", self.name, f"has codes of classes, and {reason}")

    def position(self, image: int) -> Tensor:
        """Return `image` as positions (1,).

        Raises:
            ConfigError: if the split has no such image.
        """
        if image >= (total := len(self.images)):
            raise ConfigError("image", image, f"the {self.split} split has images 0 to {total - 1}")
        return torch.tensor([image])


@dataclass(frozen=True)
class Drawing:
    """The result of a picture: images, and the tensors that they show.

    Args:
        still: the picture as one image.
        arrays: what it shows, as tensors by name.
        frames: draws the frames of the moving picture; None if it does not move.
    """

    still: Image.Image
    arrays: Mapping[str, Tensor]
    frames: Callable[[], Iterator[Image.Image]] | None = None


class Picture(ABC):
    """Base class of the kinds of pictures of `scripts/draw.py`."""

    moves = False
    """Whether the picture can move."""

    takes_conditions = False
    """Whether it gives a conditional model the condition of each image or sample; others need `at`."""

    @abstractmethod
    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture.

        Raises:
            ConfigError: if the picture is not possible for this model or these images.
        """


def by_level(batches: Iterable[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Return codes by level, (B, *event) each, of those of several batches."""
    return tuple(torch.cat(level) for level in zip(*batches, strict=True))


def image_index(image: int | None) -> int | None:
    """Return `image` if it is None or a whole number of at least 0.

    Raises:
        ConfigError: if it is neither.
    """
    return None if image is None else integer("image", image, minimum=0)
