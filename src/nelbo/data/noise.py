"""Random numbers for the examples of a batch, which depend on (seed, epoch, index, purpose) alone.

They do not depend on the batch that an example is in, nor on process, worker or device. This is a counter-based
generator (Salmon et al. 2011): a counter is hashed, so a whole batch is one vectorised expression. The hash is two
keyed rounds of the 32-bit finaliser `lowbias32` (Wellons 2018), whose avalanche bias is near the best known.
`tests/data/test_noise.py` checks that the numbers are uniform, and independent between pixels, examples, epochs, seeds
and purposes.

Shapes: B batch.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

FLIP, ROWS, COLUMNS, PIXELS = range(4)
"""Purposes; numbers for different purposes are independent."""

# Multipliers of the finalisers, as signed integers, because tensors have no unsigned ones.
LOWBIAS_1, LOWBIAS_2 = 0x7FEB352D, 0x846CA68B - (1 << 32)
MURMUR_1, MURMUR_2 = 0xFF51AFD7ED558CCD - (1 << 64), 0xC4CEB9FE1A85EC53 - (1 << 64)
LOW_31, LOW_24 = (1 << 31) - 1, (1 << 24) - 1


class Draws:
    """Uniform random numbers for the examples of a batch.

    Args:
        seed: seed of the run or of the data.
        epoch: number of the epoch, at least 0. Numbers that are drawn once for all epochs use a separate number.
        indices: positions of the examples in their array, (B,), int64, on the device where the numbers are used.

    Example:
        >>> one = Draws(seed=0, epoch=0, indices=torch.tensor([7])).uniform(PIXELS, 28, 28)
        >>> two = Draws(seed=0, epoch=0, indices=torch.tensor([3, 7])).uniform(PIXELS, 28, 28)
        >>> torch.equal(one[0], two[1])  # example 7 gets the same numbers in any batch
        True
    """

    def __init__(self, seed: int, epoch: int, indices: Tensor) -> None:
        self.seed, self.epoch, self.indices = seed, epoch, indices

    def uniform(self, purpose: int, *shape: int) -> Tensor:
        """Return numbers in [0, 1), (B, *shape), multiples of 2^-24.

        Args:
            purpose: what they are for: `FLIP`, `ROWS`, `COLUMNS` or `PIXELS`.
            shape: shape of the numbers of one example.
        """
        key = _mix_64(self.indices + _offset(self.seed, self.epoch, purpose))
        low = (key & LOW_31).int().unsqueeze(1)
        high = ((key >> 32) & LOW_31).int().unsqueeze(1)
        counter = torch.arange(math.prod(shape), dtype=torch.int32, device=key.device)
        bits = counter ^ low
        scratch = torch.empty_like(bits)
        bits = _mix_32(_mix_32(bits, scratch).bitwise_xor_(high), scratch)
        bits >>= 8
        bits &= LOW_24
        return bits.float().mul_(2.0**-24).reshape(-1, *shape)


@functools.lru_cache(maxsize=64)
def _offset(seed: int, epoch: int, purpose: int) -> int:
    (state,) = np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)
    return int(state.astype(np.int64))


def _mix_64(value: Tensor) -> Tensor:
    """Apply the 64-bit finaliser of MurmurHash3 (Appleby 2011) elementwise."""
    for multiplier in (MURMUR_1, MURMUR_2):
        value = (value ^ ((value >> 33) & LOW_31)) * multiplier
    return value ^ ((value >> 33) & LOW_31)


def _mix_32(value: Tensor, scratch: Tensor) -> Tensor:
    """Apply lowbias32 elementwise and in place, because temporary tensors would take half of the time.

    `>>` copies the sign bit into the upper bits, so these are masked.
    """
    for shift, multiplier in ((16, LOWBIAS_1), (15, LOWBIAS_2), (16, None)):
        torch.bitwise_right_shift(value, shift, out=scratch)
        scratch &= (1 << (32 - shift)) - 1
        value ^= scratch
        if multiplier is not None:
            value *= multiplier
    return value
