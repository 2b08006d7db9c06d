"""What every picture is: a model, and images where it needs them, to a drawing.

Shapes: N images of a split, B batch, C H W image, D latent dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from nelbo.errors import ConfigError, integer
from nelbo.models import VAE
from nelbo.views.codes import code_of, has_classes
from nelbo.views.images import Images, spread


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn.

    Args:
        name: of the model, for titles.
        model: in eval mode, on `device`.
        device: of the model.
        split: of the images, for titles.
        open_images: called when a picture first asks for images, with the names of their classes: the prior needs none.
        batch_size: images that are encoded at once.
    """

    name: str
    model: VAE
    device: torch.device
    split: str
    open_images: Callable[[], tuple[Images, Sequence[str]]]
    batch_size: int

    @cached_property
    def _opened(self) -> tuple[Images, Sequence[str]]:
        return self.open_images()

    @property
    def images(self) -> Images:
        """Those of the split."""
        return self._opened[0]

    @property
    def classes(self) -> Sequence[str]:
        """What the labels mean; empty where nobody says."""
        return self._opened[1]

    def spread(self, count: int) -> Tensor:
        """At most `count` positions, evenly spread over the split."""
        return spread(len(self.images), count)

    def take(self, positions: Tensor) -> Tensor:
        """The images at `positions`, on the model's device."""
        return self.images[positions].to(self.device)

    def batches(self, positions: Tensor) -> Iterator[Tensor]:
        """The images at `positions`, `batch_size` at a time."""
        for part in positions.split(self.batch_size):
            yield self.take(part)

    def codes(self, positions: Tensor) -> Tensor:
        """E_q[z] of the images at `positions`, (B, D); of classes the most probable ones, (B, N, K)."""
        return torch.cat([code_of(self.model.encode(x)) for x in self.batches(positions)])

    def require_vectors(self, reason: str) -> None:
        """Refuse one-hot codes.

        Raises:
            ConfigError: for them, with the reason.
        """
        if has_classes(self.model):
            raise ConfigError("run", self.name, f"has codes of classes, and {reason}")

    def position(self, image: int) -> Tensor:
        """`image` as a position (1,).

        Raises:
            ConfigError: if the split has no such image.
        """
        if image >= (total := len(self.images)):
            raise ConfigError("image", image, f"the {self.split} split has images 0 to {total - 1}")
        return torch.tensor([image])


@dataclass(frozen=True)
class Drawing:
    """What a picture shows.

    Args:
        still: as one image.
        arrays: the same as tensors.
        frames: as a moving image, drawn when asked; None where nothing moves.
    """

    still: Image.Image
    arrays: Mapping[str, Tensor]
    frames: Callable[[], Iterator[Image.Image]] | None = None


class Picture(ABC):
    """One kind of `scripts/draw.py`."""

    moves = False
    """Whether there is a moving image of it."""

    @abstractmethod
    def __call__(self, scene: Scene) -> Drawing:
        """Draw.

        Raises:
            ConfigError: for what this model or these images do not have.
        """


def image_index(image: int | None) -> int | None:
    """`image`, if it is null or may be a position.

    Raises:
        ConfigError: if it is neither.
    """
    return None if image is None else integer("image", image, minimum=0)
