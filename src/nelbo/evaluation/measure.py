"""The interface of every measure: from a finished model and its data to numbers.

Shapes: N images of the split that is evaluated, B batch, D latent dimensions, F factors, C H W image.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from nelbo.evaluation.batch_model import BatchModel
from nelbo.evaluation.conditional import ConditionalModel, NeedsCondition
from nelbo.evaluation.findings import SIZES, Findings, NotApplicable, Scalar, mean_and_error
from nelbo.evaluation.processes import Processes
from nelbo.models import Model
from nelbo.models.context import required_names
from nelbo.numerics.precision import IEEE, float32
from nelbo.numerics.randomness import isolated
from nelbo.trace import Trace
from nelbo.views.images import Images, evenly_spaced

__all__ = [
    "SIZES",
    "TRIAL",
    "Findings",
    "JointMeasure",
    "Measure",
    "NotApplicable",
    "Scalar",
    "Split",
    "Subject",
    "at_top_level",
    "mean_and_error",
]

Value = TypeVar("Value")

TRIAL = 1000
"""Images in a trial run from which a duration is estimated."""


class Split(Images, Protocol):
    """The images of a split, preprocessed as for the model, with their labels and factors."""

    @property
    def factors(self) -> Tensor | None:
        """All known factors of variation, (N, F); None if the data have none."""

    def context(self, positions: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what is known under `names` of the examples at `positions` (B,), (B, ...) each, by name."""


@dataclass(frozen=True)
class Subject:
    """What is measured: a model in eval mode, and the splits of the data that it was trained on.

    Args:
        name: label for people.
        model: in eval mode, on `device`.
        splits: train, val, test.
        split: name of the split that is evaluated.
        device: device of the model.
        seed: seed of all random numbers.
        batch_size: images that are processed at once.
        data: provenance of the data: name, protocol, SHA-256, ...
        checkpoint: SHA-256 of the model's file; empty if it was not loaded from one.
        classes: names of the labels.
        dequantized_levels: number of pixel levels between which uniform noise was added; None without such noise.
        config: config of the run, in plain containers; empty if only the checkpoint is left.
        steps: optimiser steps that the model was trained for; None if unknown.
        unit_kl_history: KL of each unit of all levels (D,) on the validation set by epoch; empty if the run did not
            record it.
        cache: directory for files that are computed once for each data set; None for no cache.
        processes: this process and those that share the work.
        watch: called with the name of a task, the steps done and the steps in total.
        expect: called with the name of a task that reports no progress and its estimated seconds; None to not estimate.
        top_level: whether `example` has the latents of the top level alone; see `at_top_level`.
    """

    name: str
    model: Model
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
    top_level: bool = False
    _cached: dict[tuple[object, ...], Any] = field(default_factory=dict, init=False)

    @property
    def images(self) -> Split:
        """The images of the split that is evaluated."""
        return self.splits[self.split]

    @cached_property
    def example(self) -> Trace:
        """A trace of one image, from which a measure reads which distributions the model has."""
        with torch.no_grad(), self.random_state("example", 0):
            trace = self.of_batch(self.images, torch.arange(1), self.model.trace)
        return replace(trace, latents=trace.latents[:1]) if self.top_level else trace

    def once(self, key: tuple[object, ...], compute: Callable[[], Any]) -> Any:
        """Return `compute()`, computed at most once for each key and shared by all measures of this subject."""
        if key not in self._cached:
            self._cached[key] = compute()
        return self._cached[key]

    def estimate_duration(self, task: str, times: float, trial: Callable[[], object]) -> None:
        """Estimate how long a task without progress reports takes, and pass the estimate to `expect`.

        Args:
            task: name of the task, for people.
            times: how many times as long as the trial the task takes; up to 1 nothing is estimated.
            trial: does a part of the task.
        """
        if self.expect is not None and times > 1:
            started = time.perf_counter()
            trial()
            self.expect(task, times * (time.perf_counter() - started))

    def estimate_map_duration(
        self,
        task: str,
        trial: Callable[[Tensor], object],
        times: float,
        limit: int | None,
        batch_size: int | None = None,
    ) -> None:
        """Estimate how long a `map` with slow batches takes, and pass the estimate to `expect`.

        Args:
            task: name of the task as given to `map`, which then estimates no duration of its own.
            trial: called with images (B, C, H, W) on the model's device, in a separate random state.
            times: how many times as long as the trial a batch takes.
            limit: as given to `map`.
            batch_size: as given to `map`.
        """
        batches = evenly_spaced(len(self.images), limit).split(batch_size or self.batch_size)
        share = -(-len(batches) // self.processes.count)
        with self.random_state(f"{task}, trial", 0):
            self.estimate_duration(task, times * share, lambda: self.of_batch(self.images, batches[0], trial))

    def of_batch(self, images: Split, positions: Tensor, function: Callable[[Tensor], Value]) -> Value:
        """Return a function of the images at `positions` (B,), with their conditions and masks given to the model."""
        x = images[positions].to(self.device)
        if not isinstance(self.model, BatchModel):
            return function(x)
        withheld = self.model.inferred_names
        context = images.context(positions, [name for name in self.model.model.context_names if name not in withheld])
        with self.model.given_batch({name: value.to(self.device) for name, value in context.items()}):
            return function(x)

    @contextmanager
    def random_state(self, task: str, number: int) -> Iterator[None]:
        """Run a block in a random state derived from the seed, `task` and `number`; then restore the outer state."""
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
        """Apply a function to every batch of a split and concatenate its values, (N, ...) each, on the CPU.

        Processes take turns at batches. Each batch has its own random state, derived from the seed and its number, so
        the values do not depend on the number of processes. They are in the order of the images.

        Args:
            task: name of the task, for progress reports and for the random states.
            function: maps images (B, C, H, W) on the model's device to named values, (B, ...) each.
            split: name of the split; None for the one that is evaluated.
            limit: largest number of images, evenly spread over the split; None for all.
            batch_size: None for the subject's.
        """
        images = self.splits[split or self.split]
        batches = evenly_spaced(len(images), limit).split(batch_size or self.batch_size)
        parts: list[dict[str, Tensor]] = []
        for number in range(self.processes.rank, len(batches), self.processes.count):
            with self.random_state(task, number):
                values = self.of_batch(images, batches[number], function)
            parts.append({key: value.detach().cpu() for key, value in values.items()})
            self.watch(task, min(number + self.processes.count, len(batches)), len(batches))
        return {
            key: torch.cat(self.processes.join([values[key] for values in parts], len(batches)))
            for key in self.processes.same(list(parts[0]) if parts else [])
        }


def at_top_level(subject: Subject) -> Subject:
    """Return the subject as one whose `example` has the top level of latents alone.

    The model's `encode` and `top_prior` are those of the top level at any depth. A model with one level is returned as
    it is.
    """
    if subject.top_level or len(subject.model.events) == 1:
        return subject
    return replace(subject, top_level=True)


class _Common:
    """What all measures have in common: `__call__` runs in IEEE float32, on models of x alone."""

    top_level_only: ClassVar[bool] = False
    """Whether the measure is of the top level of latents. With several levels it is given `at_top_level(subject)`, and
    the names of its results begin with `top_level_`."""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "__call__" in vars(cls):
            cls.__call__ = float32(IEEE)(_prepared(cls.__call__))  # type: ignore[method-assign]


def _prepared(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `__call__` of a measure with checked subjects, and with the top level named where it is meant."""

    @wraps(call)
    def prepared(self: _Common, subject: Subject | Sequence[Subject]) -> Findings | list[Findings]:
        alone = isinstance(subject, Subject)
        subjects = [subject] if isinstance(subject, Subject) else list(subject)
        for each in subjects:
            require_no_context(each)
        given = [at_top_level(each) for each in subjects] if self.top_level_only else subjects
        try:
            results = [call(self, given[0])] if alone else call(self, given)
        except NeedsCondition as error:
            raise NotApplicable(f"{type(self).__name__.lower()}: {error}") from error
        named = [
            findings.named_top_level() if each.top_level and not original.top_level else findings
            for findings, each, original in zip(results, given, subjects, strict=True)
        ]
        return named[0] if alone else named

    return prepared


def require_no_context(subject: Subject) -> None:
    """Raise an error if the model needs a context, such as labels, with each image.

    Raises:
        NotApplicable: if it does; `model.at(label=3)` is a model that does not.
    """
    if isinstance(subject.model, ConditionalModel):
        return
    if names := required_names(subject.model):
        given = ", ".join(f"{name}=..." for name in names)
        raise NotApplicable(
            f"{subject.name}: the model is conditioned on {', '.join(names)}, and measures give it images alone; "
            f"measure model.at({given})"
        )


class Measure(_Common, ABC):
    """One entry of `metrics=[...]`, measured on one run at a time."""

    @abstractmethod
    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the measure is not defined for the model or the data.
        """


class JointMeasure(_Common, ABC):
    """One entry of `metrics=[...]` that compares several runs."""

    @abstractmethod
    def __call__(self, subjects: Sequence[Subject]) -> list[Findings]:
        """Measure the subjects together and return the results of each, in the same order.

        Raises:
            NotApplicable: if the measure is not defined for the models or the data.
        """
