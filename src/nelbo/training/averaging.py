"""An exponential moving average of the weights, which evaluation uses in place of the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nelbo.checkpoints.record import AVERAGING
from nelbo.errors import ConfigError, number


class EMA:
    """An exponential moving average of parameters: average <- d average + (1 - d) parameter, after each update.

    d is the smaller of `decay` and (1 + n) / (10 + n) after n updates, so that the initial values are forgotten within
    tens of updates, whatever `decay` is. An average of the iterates has less of the noise of single batches than the
    last iterate (Polyak & Juditsky 1992, for the uniform average).

    Beside each parameter it keeps one tensor: the average in training and, where `is_in_use`, the raw weights. Buffers
    (the statistics of a batch normalisation, a codebook) are not averaged: evaluation uses the current ones.

    Lightning's `EMAWeightAveraging` is not used: it has a constant d, counts steps whose update was skipped, and has
    nothing for pictures outside of a validation. Like torch's `AveragedModel`, on which it builds, it keeps a copy of
    the whole module with its metrics and buffers. Only torch's function for the arithmetic is used.

    Args:
        parameters: the parameters by name, of which a shared one has several; the average starts from their values.
        decay: the largest d, from 0 (no averaging) to below 1.

    Raises:
        ConfigError: if `decay` is not such a number.

    Example:
        >>> weight = nn.Parameter(torch.tensor([0.0]))
        >>> average = EMA({"weight": weight}, decay=0.999)
        >>> weight.data.fill_(10.0)
        tensor([10.])
        >>> average.update()  # the first of all updates has d = 1 / 10
        >>> with average.in_use():
        ...     print(weight.data)
        tensor([9.])
        >>> weight.data
        tensor([10.])
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, decay: float) -> None:
        self.decay = number("decay", decay, minimum=0)
        if decay >= 1:
            raise ConfigError("decay", decay, "must be below 1, at which the average would never change")
        self.updates = 0
        """Number of updates so far."""
        self.is_in_use = False
        """Whether the parameters hold the average now."""
        self._parameters = list(dict.fromkeys(parameters.values()))
        self._others = [parameter.detach().clone() for parameter in self._parameters]
        places = {parameter: place for place, parameter in enumerate(self._parameters)}
        self._places = {name: places[parameter] for name, parameter in parameters.items()}

    @property
    def next_decay(self) -> float:
        """The d of the next update."""
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, skipped: Tensor | None = None) -> None:
        """Average the current values of the parameters in; to be called after each update of them.

        Args:
            skipped: 1 if the parameters were not updated, and else 0, a scalar that cannot be read yet; the average
                then stays as it is. `updates` counts the update, and whoever reads `skipped` later corrects it.
        """
        assert not self.is_in_use
        if skipped is not None:
            weight = (1 - self.next_decay) * (1 - skipped)
            for other, parameter in zip(self._others, self._parameters, strict=True):
                other.lerp_(parameter, weight)
            self.updates += 1
            return
        get_ema_multi_avg_fn(self.next_decay)(self._others, self._parameters, self.updates)
        self.updates += 1

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A context in which the parameters hold the average; they are then as they were, bit for bit."""
        if self.is_in_use:
            yield
            return
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Exchange the values of the parameters and of the average."""
        for parameter, other in zip(self._parameters, self._others, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(other)
            other.copy_(held)
        self.is_in_use = not self.is_in_use

    def add_to(self, checkpoint: dict[str, Any]) -> None:
        """Set the parameters in the `state_dict` of a checkpoint to the average, and add the raw weights."""
        held = [parameter.detach() for parameter in self._parameters]
        averages, raw = (held, self._others) if self.is_in_use else (self._others, held)
        checkpoint["state_dict"] |= {name: averages[place] for name, place in self._places.items()}
        checkpoint[AVERAGING] = {"updates": self.updates, "raw": {name: raw[p] for name, p in self._places.items()}}


@torch.no_grad()
def resume(parameters: Mapping[str, nn.Parameter], average: EMA | None, saved: Mapping[str, Any]) -> None:
    """Set parameters to the raw weights of a checkpoint.

    Args:
        parameters: by name; they have the values in the checkpoint's `state_dict`, the averages.
        average: started from these values, and continued; None if the run does not average any more.
        saved: what `EMA.add_to` has added to the checkpoint.
    """
    for name, value in saved["raw"].items():
        parameters[name].copy_(value)
    if average is not None:
        average.updates = saved["updates"]
