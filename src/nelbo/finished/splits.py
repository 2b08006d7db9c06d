"""The splits of a run's data, as measures and pictures are given them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nelbo.data.arrays import FACTORS, LABEL, unlabelled
from nelbo.data.run_data import RunData


class ImageSplit:
    """A split of a run's data, as the model sees it (`nelbo.evaluation.measure.Split`).

    Args:
        data: the data, set up.
        split: the name of the split.
    """

    def __init__(self, data: RunData, split: str) -> None:
        self._data, self._split, self._examples = data, split, data.splits[split]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self._data.read(self._split, positions).x

    def context(self, positions: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what a model that is conditioned on `names` is given of the examples at `positions`, (B, ...) each."""
        return self._data.read(self._split, positions).context(names)

    @property
    def labels(self) -> Tensor:
        """The labels of all images, (N,); -1 where there are none."""
        labels = self._examples.known(LABEL)
        return unlabelled(len(self._examples)) if labels is None else labels

    @property
    def factors(self) -> Tensor | None:
        """The factors of variation of all images, (N, F); None if they are unknown."""
        return self._examples.known(FACTORS)
