"""Pictures of a model that was trained for many settings."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from nelbo.models import VAE, ManyRates, axes_of, settings_of
from nelbo.views import settings
from nelbo.views.figures import as_picture
from tests.helpers.many_settings import NESTING, make_many, shaken

RATES = partial(ManyRates, lowest=0.03, highest=4.0)


def model(**parts: object) -> VAE:
    return shaken(make_many(shape=(1, 8, 8), latent_dim=6, **parts), 0.5).eval()


def test_the_axes_of_a_model_are_what_it_was_trained_for_and_is_not_bound_to() -> None:
    both = model(rates=RATES, nesting=NESTING)
    betas = (0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
    assert axes_of(both) == {"latent_dim": (1, 2, 4, 6), "beta": betas}
    assert axes_of(both.at(beta=1.0)) == {"latent_dim": (1, 2, 4, 6)}
    assert axes_of(both.at(beta=1.0).at(latent_dim=3)) == {}
    assert axes_of(model(rates=RATES)) == {"beta": betas}
    assert axes_of(model()) == {}
    odd = model(rates=partial(ManyRates, lowest=1 / 3, highest=16.6666667))
    for made in (both, odd):
        for setting in settings_of(axes_of(made)):
            made.at(**setting)  # none is refused


def test_points_are_rate_and_distortion_at_each_setting_with_the_same_noise() -> None:
    both = model(rates=RATES, nesting=NESTING)
    x = torch.rand(5, 1, 8, 8).round()
    state = torch.get_rng_state()
    measured = settings.points(both, x, {"latent_dim": (2, 6), "beta": (0.1, 1.0)}, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert [point.setting for point in measured] == settings_of({"latent_dim": (2, 6), "beta": (0.1, 1.0)})
    torch.manual_seed(3)
    with torch.no_grad():
        trace = both.at(latent_dim=2, beta=1.0).trace(x, 1)
    assert measured[1].rate == pytest.approx(float(trace.kl.mean()))
    assert measured[1].distortion == pytest.approx(-float(trace.log_px.mean()))


def test_images_have_a_row_for_each_value_of_the_first_axis_or_for_each_image() -> None:
    both = model(rates=RATES, nesting=NESTING)
    x = torch.rand(3, 1, 8, 8).round()
    axes = {"latent_dim": (1, 6), "beta": (0.1, 1.0, 3.0)}
    images = settings.reconstructions(both, x, axes)
    assert images.shape == (2, 3, 1, 8, 8)
    bound = both.at(latent_dim=6, beta=0.1)
    torch.testing.assert_close(images[1, 0], bound.decode(bound.encode(x[:1]).mean).mean[0])
    alone = settings.samples(model(nesting=NESTING), 4, {"latent_dim": (1, 3, 6)}, seed=0)
    assert alone.shape == (4, 3, 1, 8, 8)
    assert not torch.equal(alone[:, 0], alone[:, 2])


@pytest.mark.parametrize("parts", [{"rates": RATES}, {"nesting": NESTING}, {"rates": RATES, "nesting": NESTING}])
def test_figures_are_drawn_for_one_axis_and_for_two(parts: dict[str, object]) -> None:
    made, x = model(**parts), torch.rand(4, 1, 8, 8).round()
    axes = axes_of(made)
    plane = as_picture(settings.plane(settings.points(made, x, axes, seed=0)))
    assert plane.shape[0] == 3 and plane.shape[1] > 300 and plane.std() > 0.05
    images = as_picture(settings.labelled(settings.reconstructions(made, x, axes), axes))
    assert images.std() > 0.05
