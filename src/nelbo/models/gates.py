"""Gates of layers and units: factors between 0 and 1 that depend on beta.

Bae et al. 2023, "Multi-Rate VAE: Train once, get the full rate-distortion curve" (ICLR), section 4.2.

Shapes: B batch, F units of a layer, M rows of its input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

OPEN = 2.0
"""Where the gates start: sigmoid(2) = 0.88 in the encoder and sqrt(1 - exp(-2)) = 0.93 in the decoder."""

LEAST_GATE = 1e-3
"""The gate below which the derivative of the square root grows no more."""

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
"""The layers that have gates."""


class Rate:
    """The settings of the images that the networks are computing, which all layers share.

    Args:
        mean: the mean of log beta in training.
        scale: its standard deviation.
        latent_dim: D.
    """

    def __init__(self, mean: float, scale: float, latent_dim: int) -> None:
        self.mean, self.scale, self.latent_dim = mean, scale, latent_dim
        self.log_beta: Tensor | None = None
        self.count: Tensor | None = None

    def standardized(self) -> Tensor:
        """Return u of the images, (B, 1): log beta with mean 0 and variance 1.

        Raises:
            RuntimeError: outside `ManyRates.at`.
        """
        if self.log_beta is None:
            raise RuntimeError("the networks of a model with many rates compute within `rates.at(context)` only")
        return ((self.log_beta - self.mean) / self.scale).unsqueeze(-1)

    def setting(self) -> Tensor:
        """Return u and log K of the images, (B, 2), the latter from -1 for K = 1 to 1 for K = D.

        Raises:
            RuntimeError: outside `ManyRates.at`.
        """
        u = self.standardized()
        count = torch.full_like(u, self.latent_dim) if self.count is None else self.count.to(u).unsqueeze(-1)
        widest = math.log(max(self.latent_dim, 2))
        return torch.cat([u, 2 * count.log() / widest - 1], dim=-1)


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


def add_gates(net: nn.Module, kind: type[EncoderGate | DecoderGate], current: Rate, skip: int) -> None:
    """Replace the layers of a network by layers with gates.

    Args:
        net: the network, which is changed.
        kind: the class of the gates.
        current: the rate that they share.
        skip: the number of layers, in the order in which the network contains them, that have none.
    """
    for holder, name, layer, units in places_of_layers(net)[skip:]:
        setattr(holder, name, Gated(layer, kind(units), current))


def places_of_layers(net: nn.Module) -> list[tuple[nn.Module, str, nn.Module, int]]:
    """Return the layers of a network in the order in which it contains them, each with its holder, name and units."""
    return [
        (holder, name, layer, layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)
        for holder in list(net.modules())
        for name, layer in holder.named_children()
        if isinstance(layer, LAYERS)
    ]
