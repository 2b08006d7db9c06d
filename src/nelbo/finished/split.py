"""A split of the data of a finished run, as measures and pictures see it.

Shapes: N examples of a split, B batch, C H W image, F factors.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nelbo.data.module import Batch, ImageData


class ImageSplit:
    """A split of a data module, as the model sees it (`nelbo.evaluation.measure.Split`).

    Args:
        data: the data module, set up.
        split: the name of the split.
    """

    def __init__(self, data: ImageData, split: str) -> None:
        self._data, self._split, self._examples = data, split, data.splits[split]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self._present(positions).x

    def context(self, positions: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what a model that is conditioned on `names` is given of the examples at `positions`, (B, ...) each."""
        return self._present(positions).context(names)

    def _present(self, positions: Tensor) -> Batch:
        return self._data.present(self._split, self._examples.__getitems__(positions))

    @property
    def labels(self) -> Tensor:
        """The labels of all images, (N,); -1 where there are none."""
        return self._of_split(self._examples.labels)

    @property
    def factors(self) -> Tensor | None:
        """The factors of variation of all images, (N, F); None if they are unknown."""
        return None if self._examples.factors is None else self._of_split(self._examples.factors)

    def _of_split(self, values: Tensor) -> Tensor:
        return values if self._examples.indices is None else values[self._examples.indices]
