"""Pictures of 16 bits, of which the upper eight are kept: judged as a set, in which one may well be dark."""

from __future__ import annotations

import logging

from nelbo.data.sets.pictures import Picture
from nelbo.errors import DataError

log = logging.getLogger(__name__)
NAMED = 3
"""How many pictures a message names."""


class SixteenBits:
    """What the pictures of a set with 16 bits hold.

    `largest` is the largest value of those so far, None before the first that is not black.
    """

    def __init__(self) -> None:
        self.largest: int | None = None
        self._lost: list[str] = []
        self._kept = 0

    def add(self, name: str, picture: Picture) -> None:
        """Take note of a picture, by its name for messages."""
        if picture.sixteen_bits is not None:
            self.largest = max(self.largest or 0, picture.sixteen_bits)
        if picture.lost:
            self._lost.append(name)
        elif picture.sixteen_bits is not None:
            self._kept += 1

    def check(self, place: str) -> None:
        """Say which pictures became one colour, for their values differ in the lower eight bits alone.

        Raises:
            DataError: if all did that are not black, so that the set was hardly meant to have 16 bits.
        """
        if not self._lost:
            return
        more = f" and {len(self._lost) - NAMED} more" if len(self._lost) > NAMED else ""
        named = ", ".join(self._lost[:NAMED]) + more
        if not self._kept:
            hint = "65535 is white here; save them with 8 bits, or remove them"
            raise DataError(f"{place}: 16-bit values are one colour in their upper 8 bits: {named}; {hint}")
        log.warning("%s: 16-bit values that are one colour in their upper 8 bits: %s", place, named)
