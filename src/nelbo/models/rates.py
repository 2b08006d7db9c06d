"""One VAE for every beta of an interval: layers and latents with gates that depend on beta.

Bae et al. 2023, "Multi-Rate VAE: Train once, get the full rate-distortion curve" (ICLR). Every training image has a
beta of its own, drawn anew each time, and is weighted with it; the entry `log_beta` of the context.

Shapes: B batch, D latent dimensions, F units of a layer.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError, choice, number
from nelbo.models.context import Context
from nelbo.models.gates import OPEN, DecoderGate, EncoderGate, Rate, add_gates, open_share, places_of_layers
from nelbo.models.modulation import NUMBERS, Modulated
from nelbo.models.nesting import LATENT_DIM
from nelbo.trace import LOG_BETA

LEAST_START = 0.5
"""How far the offset of a latent's gate starts below its largest value, at least."""

KINDS = ("gates", "modulation")
"""How hidden layers depend on the setting."""


class ManyRates(nn.Module):
    """Gates by which a VAE is the optimum of each beta of an interval.

    Each hidden layer of the encoder and the decoder, except the decoder's first, has its results before the activation
    multiplied by a gate for each unit: sigmoid(w u + b) in the encoder, and sqrt(max(0, 1 - exp(w u + b))) in the
    decoder, where u is log beta with mean 0 and variance 1 over the interval (Bae et al. 2023, section 4.2).

    With `layers="modulation"`, hidden layers, the decoder's first among them, are scaled and shifted by functions of
    beta and of the number of latents instead (`Modulated`).

    Each latent unit i has the gate g_i = sqrt(max(0, 1 - beta exp(c_i))), by which the decoder's input and the mean of
    q are multiplied, and the logarithm of the standard deviation of q gains min(0, log beta + c_i) / 2. With these a
    linear VAE of fixed sigma has the optimum of every beta, with c_i = log(sigma^2 / lambda_i), if each lambda_i is
    above 2 sigma^2 times the least beta (docs/linear.md).

    Args:
        encoder: the encoder, whose layers are replaced by layers with gates.
        decoder: the decoder, likewise.
        latent_dim: D.
        lowest: the least beta.
        highest: the largest beta.
        layers: `gates` or `modulation`. Configs of earlier versions lack it.

    Raises:
        ConfigError: if the interval is empty or not positive, `layers` is unknown, or a network has layers that do not
            allow gates.
    """

    has_default: ClassVar[bool] = True
    context_names: ClassVar[tuple[str, ...]] = (LOG_BETA,)

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        lowest: float,
        highest: float,
        layers: str = "gates",
    ) -> None:
        super().__init__()
        self.lowest, self.highest = number("lowest", lowest, positive=True), number("highest", highest, positive=True)
        self.low, self.high = math.log(self.lowest), math.log(self.highest)
        if self.low >= self.high:
            raise ConfigError("highest", highest, f"must be larger than lowest={lowest}")
        for net in (encoder, decoder):
            refuse_layers(net)
        self.current = Rate((self.low + self.high) / 2, (self.high - self.low) / math.sqrt(12), latent_dim)
        if choice("layers", layers, KINDS) == "gates":
            add_gates(encoder, EncoderGate, self.current, skip=0)
            add_gates(decoder, DecoderGate, self.current, skip=1)
        else:
            for net in (encoder, decoder):
                for holder, name, layer, units in places_of_layers(net):
                    setattr(holder, name, Modulated(layer, units, self.current.setting, NUMBERS))
        self.largest_offset = -self.low - math.log(2)
        start = max(self.largest_offset + OPEN + max(self.high, 0.0) / 2, LEAST_START)
        inverse_softplus = start + math.log(-math.expm1(-start))
        self.below_largest = nn.Parameter(torch.full((latent_dim,), inverse_softplus))

    @property
    def offset(self) -> Tensor:
        """c, (D,): the gate of a unit is closed where log beta is above -c.

        It is below -log(2 lowest), so that every gate is open at the least beta: one that is closed for every image
        would have no gradient, and stay so.
        """
        return self.largest_offset - functional.softplus(self.below_largest)

    def draw(self, count: int) -> Tensor:
        """Return log beta of `count` images, (count,), uniform on the interval."""
        return torch.empty(count, device=self.below_largest.device).uniform_(self.low, self.high)

    def default(self, count: int) -> Tensor:
        """Return the logarithm of the beta that is nearest to 1, (count,)."""
        return torch.full((count,), min(max(0.0, self.low), self.high), device=self.below_largest.device)

    def check(self, beta: float) -> float:
        """Return log beta.

        Raises:
            ConfigError: if beta lies outside the interval.
        """
        value = math.log(number("beta", beta, positive=True))
        if not self.low - 1e-6 <= value <= self.high + 1e-6:
            low, high = math.exp(self.low), math.exp(self.high)
            raise ConfigError("beta", beta, f"must be from {low:.4g} to {high:.4g}, for which the model was trained")
        return value

    def code_gates(self, context: Context) -> Tensor:
        """Return the gates of the latent units, (B, D)."""
        return open_share(context[LOG_BETA].unsqueeze(-1) + self.offset)

    def posterior(self, q: DiagonalNormal, context: Context) -> DiagonalNormal:
        """Return q(z|x) at the betas of the context.

        Args:
            q: as the posterior head makes it, batch shape (B,).
            context: the context, with log beta of each image, (B,).
        """
        exponent = context[LOG_BETA].unsqueeze(-1) + self.offset
        log_scale = q.log_scale + exponent.clamp(max=0) / 2
        return DiagonalNormal(q.loc * open_share(exponent), log_scale.exp(), log_scale)

    @contextlib.contextmanager
    def at(self, context: Context) -> Iterator[None]:
        """Within it, the networks compute at the betas of the context."""
        current = self.current
        outer = current.log_beta, current.count
        current.log_beta, current.count = context[LOG_BETA], context.get(LATENT_DIM)
        try:
            yield
        finally:
            current.log_beta, current.count = outer


def refuse_layers(net: nn.Module, key: str = "rates", value: str = "many") -> None:
    """Refuse networks whose layers depend on other images, or are computed again in the backward pass.

    Args:
        net: the network.
        key: the config key to name.
        value: its value.

    Raises:
        ConfigError: for batch normalisation, and for `checkpoint_activations`.
    """
    for part in net.modules():
        if isinstance(part, _BatchNorm):
            raise ConfigError(key, value, "does not go with batch normalisation, which mixes different images")
        if getattr(part, "checkpoint_activations", False):
            raise ConfigError(key, value, "does not go with checkpoint_activations=true")
