"""Random numbers of Datasets that are not nelbo's: the global generators on the CPU, seeded by a key.

A Dataset draws from the generators of torch, NumPy and Python. If these are seeded by (seed, epoch, index) before it
makes an item, the item depends neither on the worker or process that makes it, nor on what was drawn before. The states
of the process are restored afterwards, so that the data do not change the random numbers of training.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["KeyedStates", "restored", "seed_by"]


def seed_by(*key: int | str) -> None:
    """Seed the global generators of torch (CPU), NumPy and Python by a key."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=32).digest()
    torch.default_generator.manual_seed(int.from_bytes(digest[:8]) >> 1)
    np.random.seed(int.from_bytes(digest[8:12]))
    random.seed(digest[12:])


@contextmanager
def restored() -> Iterator[None]:
    """A context after which the generators are in the states in which they were before."""
    before = _states()
    try:
        yield
    finally:
        _set(before)


class KeyedStates:
    """A context, entered several times, in which the generators go on from where they were when it was left last.

    Args:
        key: seeds them at first.

    Example:
        >>> states, again = KeyedStates("a"), KeyedStates("a")
        >>> with states:
        ...     first = torch.rand(1)
        >>> with states:
        ...     second = torch.rand(1)
        >>> with again:
        ...     both = torch.rand(1), torch.rand(1)
        >>> both == (first, second)
        True
    """

    def __init__(self, *key: int | str) -> None:
        with restored():
            seed_by(*key)
            self._inside = _states()

    def __enter__(self) -> None:
        self._outside = _states()
        _set(self._inside)

    def __exit__(self, *error: object) -> None:
        self._inside = _states()
        _set(self._outside)


def _states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _set(states: tuple[Any, ...]) -> None:
    on_cpu, numpy, python = states
    torch.set_rng_state(on_cpu)
    np.random.set_state(numpy)
    random.setstate(python)
