"""Selection of the images of a split."""

from __future__ import annotations

from nelbo.views.images import evenly_spaced


def test_positions_are_evenly_spaced_and_at_most_the_limit() -> None:
    assert evenly_spaced(10, 4).tolist() == [0, 2, 5, 7]
    assert evenly_spaced(3, 5).tolist() == evenly_spaced(3, None).tolist() == [0, 1, 2]
