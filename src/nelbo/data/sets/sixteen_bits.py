"""Statistics of 16-bit pictures: what is lost where only the upper eight bits of their values are kept.

The loss is judged for the whole data set, because a single picture may be dark without any mistake.
"""

from __future__ import annotations

import logging

from nelbo.data.sets.pictures import Picture
from nelbo.errors import DataError

log = logging.getLogger(__name__)
NAMED = 3
"""Maximum number of pictures that a message lists."""


class SixteenBits:
    """Statistics of the 16-bit pictures of a data set.

    Attributes:
        largest: largest value of those added so far; None before the first one that is not black.
    """

    def __init__(self) -> None:
        self.largest: int | None = None
        self._lost: list[str] = []
        self._kept = 0
        self._kinds: dict[int, str] = {}

    def add(self, name: str, picture: Picture) -> None:
        """Add a picture; `name` is its name in messages."""
        self._kinds.setdefault(16 if picture.pixels.dtype.kind == "f" else 8, name)
        if picture.sixteen_bits is not None:
            self.largest = max(self.largest or 0, picture.sixteen_bits)
        if picture.lost:
            self._lost.append(name)
        elif picture.sixteen_bits is not None:
            self._kept += 1

    def refuse_mixed(self, place: str) -> None:
        """Check that all pictures are uint8 pixels, or all of them floats.

        Args:
            place: the folder or data set, for messages.

        Raises:
            DataError: if there are both.
        """
        if len(self._kinds) > 1:
            problem = f"holds pictures of 16 bits ({self._kinds[16]}) and of 8 ({self._kinds[8]})"
            hint = "set data.bits=16 to read all as floats, or data.bits=8 to keep the upper eight bits"
            raise DataError(f"{place}: {problem}; {hint}")

    def check(self, place: str) -> None:
        """Log a warning about pictures that became one colour, because their values differ in the lower bits only.

        Args:
            place: the folder or data set, for messages.

        Raises:
            DataError: if all pictures that are not black did, so that white is probably less than 65535.
        """
        if not self._lost:
            return
        more = f" and {len(self._lost) - NAMED} more" if len(self._lost) > NAMED else ""
        listed = ", ".join(self._lost[:NAMED]) + more
        if not self._kept:
            hint = "65535 is read as white; save them with 8 bits, or remove them"
            raise DataError(f"{place}: 16-bit pictures of one colour in their upper 8 bits: {listed}; {hint}")
        log.warning("%s: 16-bit pictures of one colour in their upper 8 bits: %s", place, listed)
