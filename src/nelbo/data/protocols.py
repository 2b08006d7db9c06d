"""Protocols: how stored pixels become model input. Results under different protocols are not comparable.

Shapes: B batch, C H W image, or D in place of C H W for vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from nelbo.data.noise import PIXELS, Draws
from nelbo.errors import ConfigError

ALL, UNIT, LEVELS = "all", "unit", "levels"


@dataclass(frozen=True)
class Protocol:
    """A conversion of stored images to model input.

    Args:
        description: what it does, for the user.
        present: converts stored images (B, C, H, W), with the random numbers of the batch, to floats: uint8 to [0, 1].
        each_epoch: whether training images get new random numbers in every epoch; other images always get the same.
        of_floats: which floats can be converted: `ALL`, those in [0, 1] (`UNIT`), or none (`LEVELS`, 8 bits only).
    """

    description: str
    present: Callable[[Tensor, Draws], Tensor]
    each_epoch: bool = False
    of_floats: str = LEVELS


def _raw(images: Tensor, draws: Draws) -> Tensor:
    if images.is_floating_point():
        return images
    return images.float().mul_(1 / 255)  # twice as fast as a division, and 255 still becomes exactly 1


def _bernoulli(images: Tensor, draws: Draws) -> Tensor:
    """Draw each pixel as 1 with the probability of its grey value, else 0 (Salakhutdinov & Murray 2008)."""
    return (draws.uniform(PIXELS, *images.shape[1:]) < _raw(images, draws)).float()


def _threshold(images: Tensor, draws: Draws) -> Tensor:
    return (images >= (0.5 if images.is_floating_point() else 128)).float()


def _dequantized(images: Tensor, draws: Draws) -> Tensor:
    """Return (v + u) / 256 for the 8-bit value v and uniform noise u in [0, 1).

    The mean log-density of these pixels is a lower bound of the log-probability of v, up to the constant log 256 per
    pixel (Theis et al. 2016, eq. 3).
    """
    return draws.uniform(PIXELS, *images.shape[1:]).add_(images).div_(256)


PROTOCOLS = {
    "raw": Protocol("pixels as they are, divided by 255; floats unchanged", _raw, of_floats=ALL),
    "dequantized": Protocol(
        "uniform noise within each of 256 levels: in every epoch for training images, once for others",
        _dequantized,
        each_epoch=True,
    ),
    "dynamic": Protocol(
        "binarised at random: in every epoch for training images, once for others",
        _bernoulli,
        each_epoch=True,
        of_floats=UNIT,
    ),
    "fixed": Protocol("binarised at random once, with the seed of the data", _bernoulli, of_floats=UNIT),
    "threshold": Protocol("1 where the pixel is at least one half, else 0", _threshold, of_floats=UNIT),
    "static": Protocol("binarised once by the publisher of the data set", _raw),
}
"""Protocols by the value of `data.protocol`."""


def check_floats(protocol: str, name: str, low: float, high: float) -> None:
    """Check that a protocol can be used with floats.

    Args:
        protocol: the value of `data.protocol`.
        name: name of the data set, for the message.
        low: its smallest value.
        high: its largest value.

    Raises:
        ConfigError: if it cannot.
    """
    accepted = PROTOCOLS[protocol].of_floats
    if accepted == LEVELS:
        hint = f"is for pixels of 8 bits, and {name} holds floats; use data.protocol=raw, which serves them as they are"
        raise ConfigError("protocol", protocol, hint)
    if accepted == UNIT and not 0 <= low <= high <= 1:
        hint = f"takes floats in [0, 1] as probabilities of 1, and {name} holds {low:g} to {high:g}"
        raise ConfigError("protocol", protocol, f"{hint}; use data.protocol=raw")
