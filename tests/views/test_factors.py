"""The heat map of mutual information."""

from __future__ import annotations

import torch

from nelbo.views.factors import draw_information


def test_a_picture_of_many_units_shows_the_most_informative_ones() -> None:
    shares = torch.zeros(90, 2)
    shares[40:50] = 0.9
    many, few = draw_information(shares, range(90), [0, 1]), draw_information(shares[40:50], range(40, 50), [0, 1])
    assert few.shape[1] < many.shape[1] < 3 * few.shape[1] and many.shape[2] == few.shape[2]
    yellow = [((picture[0] > 0.5) & (picture[1] > 0.8) & (picture[2] < 0.3)).sum().item() for picture in (many, few)]
    assert yellow[0] > 0.8 * yellow[1] > 1000  # fields of the taller picture are slightly lower
