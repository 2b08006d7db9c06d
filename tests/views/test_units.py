"""Bar charts of latent units."""

from __future__ import annotations

import torch

from nelbo.theory.linear import LinearTheory
from nelbo.theory.spectrum import LeadingSpectrum
from nelbo.views.units import draw_units


def test_there_is_a_panel_for_kl_variances_and_spectrum_if_they_are_known() -> None:
    kl, variances = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([0.6, 1e-9, 0.4])
    values = torch.tensor([4.0, 1.0, 0.1], dtype=torch.float64)
    theory = LinearTheory(LeadingSpectrum(values, values.expand(60, 3), is_whole=True), level=0.5)
    one, two, three = (
        draw_units(None, variances, 0.01),
        draw_units(kl, variances, 0.01),
        draw_units(kl, variances, 0.01, theory),
    )
    assert [picture.shape[1] for picture in (one, two, three)] == [290, 550, 810]
    assert all(picture.shape[0] == 3 and 0 <= picture.min() < picture.max() <= 1 for picture in (one, two, three))
