"""The results of a measure.

Shapes: N images, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nelbo.errors import NelboError
from nelbo.trace import TOP_LEVEL

Scalar = float | int | str

SIZES = ("_images", "_samples")
"""Suffixes of values that say how many images or samples something was measured on."""


class NotApplicable(NelboError):
    """A measure is not defined for this model or these data; it is skipped with this message."""


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Return the mean over images (N,) and its standard error, in float64; the error of one image is nan."""
    values = values.double()
    return values.mean().item(), (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


@dataclass
class Findings:
    """The results of a measure for one subject.

    Args:
        values: results and settings by flat names; each becomes `test/NAME`, for example `nll` and `nll_samples`.
        per_image: (N, ...) each, in the order of the images, for paired comparisons.
        pictures: (C, height, width) in [0, 1] each.
        warnings: what a reader of the numbers must know, one line each.
        recipe: settings that must be equal for the values of two runs to be comparable.
    """

    values: dict[str, Scalar] = field(default_factory=dict)
    per_image: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    recipe: dict[str, Scalar] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, float]:
        """The values that are results: numbers that are neither settings, which the recipe has, nor sizes."""
        return {
            key: value
            for key, value in self.values.items()
            if not (isinstance(value, str) or key in self.recipe or key.endswith(SIZES))
        }

    def named_top_level(self) -> Findings:
        """Return the same results under names that say that they are of the top level of latents.

        Example:
            >>> Findings({"mig": 0.3, "mig_images": 100}, warnings=["mig: a line"]).named_top_level()
            Findings(values={'top_level_mig': 0.3, 'top_level_mig_images': 100}, per_image={}, pictures={}, \
warnings=['top level: mig: a line'], recipe={})
        """

        def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
            return {f"{TOP_LEVEL}{key}": value for key, value in values.items()}

        return Findings(
            values=renamed(self.values),
            per_image=renamed(self.per_image),
            pictures=renamed(self.pictures),
            warnings=[f"top level: {line}" for line in self.warnings],
            recipe=renamed(self.recipe),
        )

    def add_mean(self, name: str, per_image: Tensor) -> None:
        """Add the mean of values (N,) as NAME, its standard error over images as NAME_se, and the values themselves.

        A warning is added if some of the values are not finite.

        Example:
            >>> findings = Findings()
            >>> findings.add_mean("nll", Tensor([1.0, 3.0]))
            >>> findings.values
            {'nll': 2.0, 'nll_se': 1.0}
        """
        mean, error = mean_and_error(per_image)
        self.values |= {name: mean} | ({f"{name}_se": error} if len(per_image) > 1 else {})
        self.per_image[name] = per_image
        if infinite := int((~per_image.isfinite()).sum()):
            self.warnings.append(f"{name} is not finite for {infinite} of {len(per_image)} images")
