"""One VAE for every beta of an interval: layers and latents with gates that depend on beta.

Bae et al. 2023, "Multi-Rate VAE: Train once, get the full rate-distortion curve" (ICLR). Every training image has a
beta of its own, drawn anew each time, and is weighted with it; the entry `log_beta` of the context.

Shapes: B batch, D latent dimensions, F units of a layer, M rows of its input.
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
from nelbo.errors import ConfigError, number
from nelbo.models.context import Context
from nelbo.trace import LOG_BETA

OPEN = 2.0
"""Where the gates start: sigmoid(2) = 0.88 in the encoder and sqrt(1 - exp(-2)) = 0.93 in the decoder."""

LEAST_GATE = 1e-3
"""The gate below which the derivative of the square root grows no more."""

LEAST_START = 0.5
"""How far the offset of a latent's gate starts below its largest value, at least."""

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
"""The layers that have gates."""


class ManyRates(nn.Module):
    """Gates by which a VAE is the optimum of each beta of an interval.

    Each hidden layer of the encoder and the decoder, except the decoder's first, has its results before the activation
    multiplied by a gate for each unit: sigmoid(w u + b) in the encoder, and sqrt(max(0, 1 - exp(w u + b))) in the
    decoder, where u is log beta with mean 0 and variance 1 over the interval (Bae et al. 2023, section 4.2).

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

    Raises:
        ConfigError: if the interval is empty or not positive, or a network has layers that do not allow gates.
    """

    has_default: ClassVar[bool] = True
    context_names: ClassVar[tuple[str, ...]] = (LOG_BETA,)

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent_dim: int, *, lowest: float, highest: float
    ) -> None:
        super().__init__()
        self.low = math.log(number("lowest", lowest, positive=True))
        self.high = math.log(number("highest", highest, positive=True))
        if self.low >= self.high:
            raise ConfigError("highest", highest, f"must be larger than lowest={lowest}")
        for net in (encoder, decoder):
            refuse_layers(net)
        self.current = Rate((self.low + self.high) / 2, (self.high - self.low) / math.sqrt(12))
        add_gates(encoder, EncoderGate, self.current, skip=0)
        add_gates(decoder, DecoderGate, self.current, skip=1)
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
        outer, self.current.log_beta = self.current.log_beta, context[LOG_BETA]
        try:
            yield
        finally:
            self.current.log_beta = outer


class Rate:
    """The log beta of the images that the networks are computing, which all gates share.

    Args:
        mean: the mean of log beta in training.
        scale: its standard deviation.
    """

    def __init__(self, mean: float, scale: float) -> None:
        self.mean, self.scale = mean, scale
        self.log_beta: Tensor | None = None

    def standardized(self) -> Tensor:
        """Return u of the images, (B, 1): log beta with mean 0 and variance 1.

        Raises:
            RuntimeError: outside `ManyRates.at`.
        """
        if self.log_beta is None:
            raise RuntimeError("the networks of a model with many rates compute within `rates.at(context)` only")
        return ((self.log_beta - self.mean) / self.scale).unsqueeze(-1)


class Gated(nn.Module):
    """A layer whose result is multiplied by gates, one for each unit or channel.

    Args:
        layer: a linear layer or a convolution.
        gate: makes the gates of u, (B, 1) to (B, F).
        current: the rate of the images.
    """

    def __init__(self, layer: nn.Module, gate: Gate, current: Rate) -> None:
        super().__init__()
        self.layer, self.gate, self.current = layer, gate, current

    def forward(self, x: Tensor) -> Tensor:
        """Return the gated result of x (M, ...); M is a multiple of B, with the images of a sample side by side."""
        y: Tensor = self.layer(x)
        gates: Tensor = self.gate(self.current.standardized())
        gates = gates.repeat(len(y) // len(gates), 1) if len(gates) > 1 else gates
        return y * gates.reshape(*gates.shape, *[1] * (y.ndim - 2)).to(y.dtype)


class Gate(nn.Module):
    """Gates of the units of a layer, as a function of u.

    Args:
        units: F.
        start: the logit at the start, for every u.
    """

    def __init__(self, units: int, start: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(units))
        self.bias = nn.Parameter(torch.full((units,), start))

    def logit(self, u: Tensor) -> Tensor:
        """Return w u + b, (B, F), of u (B, 1)."""
        return u * self.slope + self.bias


class EncoderGate(Gate):
    """sigmoid(w u + b).

    Args:
        units: F.
    """

    def __init__(self, units: int) -> None:
        super().__init__(units, OPEN)

    def forward(self, u: Tensor) -> Tensor:
        """Return the gates, (B, F)."""
        return torch.sigmoid(self.logit(u))


class DecoderGate(Gate):
    """sqrt(max(0, 1 - exp(w u + b))).

    Args:
        units: F.
    """

    def __init__(self, units: int) -> None:
        super().__init__(units, -OPEN)

    def forward(self, u: Tensor) -> Tensor:
        """Return the gates, (B, F)."""
        return open_share(self.logit(u))


def open_share(exponent: Tensor) -> Tensor:
    """Return sqrt(max(0, 1 - exp(exponent))), with a derivative that is finite where the gate closes.

    Example:
        >>> open_share(torch.tensor([-100.0, -0.2877])), open_share(torch.tensor([0.0, 3.0])) == 0
        (tensor([1.0000, 0.5000]), tensor([True, True]))
    """
    share = -torch.expm1(exponent.clamp(max=0))
    is_open = share > LEAST_GATE**2
    root = torch.where(is_open, share, torch.ones_like(share)).sqrt()
    return torch.where(is_open, root, share / LEAST_GATE)


def refuse_layers(net: nn.Module) -> None:
    """Refuse networks whose layers depend on other images, or are computed again in the backward pass.

    Raises:
        ConfigError: for batch normalisation, and for `checkpoint_activations`.
    """
    for part in net.modules():
        if isinstance(part, _BatchNorm):
            raise ConfigError("rates", "many", "does not go with batch normalisation, which mixes images of all betas")
        if getattr(part, "checkpoint_activations", False):
            raise ConfigError("rates", "many", "does not go with checkpoint_activations=true")


def add_gates(net: nn.Module, kind: type[EncoderGate | DecoderGate], current: Rate, skip: int) -> None:
    """Replace the layers of a network by layers with gates.

    Args:
        net: the network, which is changed.
        kind: the class of the gates.
        current: the rate that they share.
        skip: the number of layers, in the order in which the network contains them, that have none.
    """
    places = [
        (holder, name, layer)
        for holder in list(net.modules())
        for name, layer in holder.named_children()
        if isinstance(layer, LAYERS)
    ]
    for holder, name, layer in places[skip:]:
        units = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        setattr(holder, name, Gated(layer, kind(units), current))
