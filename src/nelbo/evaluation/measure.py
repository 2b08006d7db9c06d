"""What every measure is: a finished model and its data to numbers.

Shapes: N images of the split that is evaluated, B batch, C H W image.
"""

from __future__ import annotations

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from nelbo.errors import NelboError
from nelbo.evaluation.processes import Processes
from nelbo.models import VAE
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated
from nelbo.trace import Trace
from nelbo.views.images import Images
from nelbo.views.images import spread as spread

Scalar = float | int | str

TRIAL = 1000
"""Images of a trial that says how long something will take."""

SIZES = ("_images", "_samples")
"""Endings of values that say of how many something was measured."""


class NoMeaning(NelboError):
    """A measure that has no meaning for this model or data: it is left out, and said to be."""


class Split(Images, Protocol):
    """The images of a split, as the model sees them, with what is known of them."""

    @property
    def factors(self) -> Tensor | None:
        """All known factors of variation, (N, F), where there are any."""


@dataclass(frozen=True)
class Subject:
    """What is measured: a model in eval mode, and the splits of the data that it was trained on.

    Args:
        name: for people.
        model: in eval mode, on `device`.
        splits: train, val, test.
        split: the one that is evaluated.
        device: of the model.
        seed: of everything random.
        batch_size: images that are taken at once.
        data: the data's provenance: name, protocol, SHA-256, ...
        checkpoint: the SHA-256 of the model's file, where there is one.
        classes: what the labels mean.
        dequantized_levels: how many levels uniform noise has filled, if the pixels are such.
        config: the run's, in plain containers; empty where only a checkpoint is left.
        steps: optimiser steps that the model was trained for, where that is known.
        unit_kl_history: KL of each unit (D,) on the validation set by epoch, where the run wrote it.
        cache: where what is made once for a data set is kept.
        processes: this one and those that share the work.
        watch: called with what is done, how much of it, and out of how much.
        expect: called with what cannot be watched, and the seconds that it will take; None where nobody asks.
    """

    name: str
    model: VAE
    splits: Mapping[str, Split]
    split: str = "test"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    batch_size: int = 100
    data: Mapping[str, Scalar] = field(default_factory=dict)
    checkpoint: str = ""
    classes: Sequence[str] = ()
    dequantized_levels: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    unit_kl_history: Mapping[int, Sequence[float]] = field(default_factory=dict)
    cache: Path | None = None
    processes: Processes = field(default_factory=Processes)
    watch: Callable[[str, int, int], None] = lambda task, done, total: None
    expect: Callable[[str, float], None] | None = None
    _found: dict[tuple[object, ...], Any] = field(default_factory=dict, init=False)

    @property
    def images(self) -> Split:
        """Those of the split that is evaluated."""
        return self.splits[self.split]

    @cached_property
    def example(self) -> Trace:
        """A trace of one image, to ask what has a meaning for such traces."""
        with torch.no_grad(), self.random_state("example", 0):
            return self.model.trace(self.images[torch.arange(1)].to(self.device))

    def once(self, key: tuple[object, ...], compute: Callable[[], Any]) -> Any:
        """`compute()`, or what it gave to an earlier measure under the same key."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    def foresee(self, task: str, times: float, trial: Callable[[], object]) -> None:
        """Say how long a task will take that no `watch` reports on: `times` as long as a trial with a part of it."""
        if self.expect is not None and times > 1:
            started = time.perf_counter()
            trial()
            self.expect(task, times * (time.perf_counter() - started))

    def foresee_batches(
        self,
        task: str,
        trial: Callable[[Tensor], object],
        times: float,
        limit: int | None,
        batch_size: int | None = None,
    ) -> None:
        """The same of a task whose batches take long: a batch takes `times` as long as a trial with one.

        Args:
            task: as of `map`, which then says no more of it.
            trial: called with images (B, C, H, W) on the model's device, in a random state of its own.
            times: how much longer a batch takes than the trial.
            limit: as of `map`.
            batch_size: as of `map`.
        """
        batches = spread(len(self.images), limit).split(batch_size or self.batch_size)
        share = -(-len(batches) // self.processes.count)
        with self.random_state(f"{task}, trial", 0):
            self.foresee(task, times * share, lambda: trial(self.images[batches[0]].to(self.device)))

    @contextmanager
    def random_state(self, task: str, number: int) -> Iterator[None]:
        """A random state of its own for each seed, task and number; the one from outside comes back at the end."""
        digest = hashlib.sha256(f"{self.seed} {task} {number}".encode()).digest()
        with isolated(int.from_bytes(digest[:8]) // 2):
            yield

    def map(
        self,
        task: str,
        function: Callable[[Tensor], Mapping[str, Tensor]],
        *,
        split: str | None = None,
        limit: int | None = None,
        batch_size: int | None = None,
    ) -> dict[str, Tensor]:
        """`function` of every batch of a split, its values (B, ...) joined in the order of the images, on the CPU.

        Processes take turns at batches. Each batch has a random state of its own, from the seed and its number, so the
        values do not depend on how many processes there are.

        Args:
            task: for people, and for the random states.
            function: images (B, C, H, W) on the model's device to named values, (B, ...) each.
            split: another one than that which is evaluated.
            limit: no more than so many images, evenly spread over the split.
            batch_size: another one than the subject's.
        """
        images = self.splits[split or self.split]
        batches = spread(len(images), limit).split(batch_size or self.batch_size)
        found: list[dict[str, Tensor]] = []
        for number in range(self.processes.rank, len(batches), self.processes.count):
            with self.random_state(task, number):
                values = function(images[batches[number]].to(self.device))
            found.append({key: value.detach().cpu() for key, value in values.items()})
            self.watch(task, min(number + self.processes.count, len(batches)), len(batches))
        return {
            key: torch.cat(self.processes.join([values[key] for values in found], len(batches)))
            for key in self.processes.same(list(found[0]) if found else [])
        }


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean over images (N,), and its standard error, in float64."""
    values = values.double()
    return values.mean().item(), (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan


@dataclass
class Findings:
    """What a measure found.

    Args:
        values: by flat names; they become `test/NAME`. How it was measured stands among them: `nll_samples`.
        per_image: (N, ...) each, in the order of the images, for paired comparisons.
        pictures: (C, height, width) in [0, 1] each.
        warnings: what a reader of the numbers must know, a line each.
        recipe: what must be equal for these values to be compared between runs.
    """

    values: dict[str, Scalar] = field(default_factory=dict)
    per_image: dict[str, Tensor] = field(default_factory=dict)
    pictures: dict[str, Tensor] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    recipe: dict[str, Scalar] = field(default_factory=dict)

    @property
    def results(self) -> dict[str, float]:
        """The numbers among the values that are results: neither settings, which the recipe has, nor sizes."""
        return {
            key: value
            for key, value in self.values.items()
            if not (isinstance(value, str) or key in self.recipe or key.endswith(SIZES))
        }

    def add_mean(self, name: str, per_image: Tensor) -> None:
        """The mean of values (N,) as NAME, its standard error over images as NAME_se, and the values themselves."""
        mean, error = mean_and_error(per_image)
        self.values |= {name: mean} | ({f"{name}_se": error} if len(per_image) > 1 else {})
        self.per_image[name] = per_image
        if infinite := int((~per_image.isfinite()).sum()):
            self.warnings.append(f"{name} is not finite for {infinite} of {len(per_image)} images")


class _InFloat32:
    """What is called in IEEE float32, whatever the training of the model was computed in."""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "__call__" in vars(cls):
            cls.__call__ = float32(IEEE)(cls.__call__)  # type: ignore[method-assign]


class Measure(_InFloat32, ABC):
    """One entry of `metrics=[...]`."""

    @abstractmethod
    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if the model or the data have no such thing.
        """


class JointMeasure(_InFloat32, ABC):
    """One that needs several runs."""

    @abstractmethod
    def __call__(self, subjects: Sequence[Subject]) -> list[Findings]:
        """What was found of each subject, in their order.

        Raises:
            NoMeaning: if the models or the data have no such thing.
        """
