"""Checks of gradients whose results are read one step later, so that no step waits for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nelbo.numerics import compat, devices
from nelbo.training.callbacks.crash import Failure, Start


@dataclass
class Batch:
    """The values of a batch, on the device.

    Args:
        number: the number of the batch in its epoch, from 0.
        loss: the objective, a scalar in nats.
        terms: the terms of the objective, by name.
        names: the P parameters that have a gradient after this batch.
        norms: the norm of the gradient of each of them, (P,).
        largest: the largest absolute value in each of these gradients, (P,): finite if all values are.
    """

    number: int
    loss: Tensor
    terms: Mapping[str, Tensor | float]
    names: list[str]
    norms: Tensor
    largest: Tensor

    def not_finite(self, sizes: Tensor) -> list[str]:
        """Return the names of the parameters whose entry of `sizes`, (P,), is not finite."""
        return [name for name, finite in zip(self.names, sizes.isfinite().tolist(), strict=True) if not finite]


@dataclass
class Step:
    """What is known of a step when its update turns out to be bad.

    Args:
        number: the number of the step, from 0.
        start: the state before its first batch.
        last: the number of its last batch in the epoch, from 0.
        batches: its batches, if they were checked late.
    """

    number: int
    start: Start
    last: int
    batches: list[Batch] = field(default_factory=list)

    def failure(self) -> tuple[int, Failure]:
        """Return the number and the values of the first batch whose gradients were not finite, or else of the last."""
        bad = [batch for batch in self.batches if not batch.largest.isfinite().all()]
        bad += [batch for batch in self.batches if not torch.linalg.vector_norm(batch.norms).isfinite()]
        batch = (bad or self.batches[-1:])[0]
        values = Failure(batch.loss.item(), {name: float(value) for name, value in batch.terms.items()}, [])
        if values.is_of_loss:
            return batch.number, values
        # A finite gradient may be too large to be squared, as optimisers do.
        names = batch.not_finite(batch.largest) or batch.not_finite(batch.norms)
        return batch.number, Failure(values.loss, values.terms, names)


@dataclass(frozen=True)
class Report:
    """The result of the check of a step.

    Args:
        step: the step.
        bad: whether its update was skipped on the device.
        norm: the total norm of its gradients.
        skipped: number of updates skipped so far.
        in_a_row: number of updates skipped since the last one that was made.
        clipped: number of updates clipped so far.
    """

    step: Step
    bad: bool
    norm: float
    skipped: int
    in_a_row: int
    clipped: int


class LateChecks:
    """Checks the gradients of each step on their device, and returns the result when the next step is checked.

    A step is bad if the total norm of its gradients is not finite, or not at most `skip_above`. The optimiser makes no
    update of a bad step: it reads the flag on the device, as it does for PyTorch's `GradScaler`.

    Args:
        parameters: the parameters, by name.
        device: the device that they are on.
        skip_above: the largest total norm of an update that is made; None for no limit.
        clip: the bound at which gradients are clipped, 0 for none.
        by_value: whether their largest entry is clipped instead of their norm.
        counts: the numbers of updates skipped, skipped in a row and clipped so far.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        device: torch.device,
        *,
        skip_above: float | None,
        clip: float,
        by_value: bool,
        counts: Sequence[int],
    ) -> None:
        self.parameters, self.skip_above, self.clip, self.by_value = parameters, skip_above, clip, by_value
        self.counts = torch.tensor(counts, dtype=torch.float32, device=device)
        self._host = devices.HostCopy(5, device)
        self._pending: Step | None = None

    def names(self) -> list[str]:
        """Return the names of the parameters that have a gradient."""
        return [name for name, parameter in self.parameters.items() if parameter.grad is not None]

    def sizes(self) -> tuple[Tensor, Tensor]:
        """Return the norm of each gradient and its largest absolute value, each (P,)."""
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        return compat.norms(gradients), compat.norms(gradients, math.inf)

    def check(self, step: Step) -> Tensor:
        """Check the gradients of a step, and return 1 if it is bad and 0 if not, a scalar on the device.

        Args:
            step: the step, whose last batch has just been processed.
        """
        norm = torch.linalg.vector_norm(step.batches[-1].norms)
        bad = norm.isfinite().logical_not() if self.skip_above is None else (norm <= self.skip_above).logical_not()
        size = step.batches[-1].largest.max() if self.by_value else norm
        clipped = (size > self.clip) & ~bad if self.clip else torch.zeros_like(bad)
        skipped, in_a_row, before = self.counts.unbind()
        self.counts = torch.stack([skipped + bad, (in_a_row + 1) * bad, before + clipped])
        self._host.copy(torch.cat([torch.stack([bad, norm]).to(self.counts), self.counts]))
        self._pending = step
        flag: Tensor = bad.float()
        return flag

    def logged(self, counts: Mapping[str, float]) -> dict[str, Tensor | float]:
        """Return the counts that `counts` names, with the step that was just checked, on the device."""
        places = {"skipped_steps": 0, "clipped_steps": 2}
        return {name: self.counts[places[name]] for name in counts}

    def report(self) -> Report | None:
        """Return the result of the last step that was checked; None if it was returned before."""
        if self._pending is None:
            return None
        step, self._pending = self._pending, None
        bad, norm, skipped, in_a_row, clipped = self._host.read()
        return Report(step, bool(bad), norm, int(skipped), int(in_a_row), int(clipped))
