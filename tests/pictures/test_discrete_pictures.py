"""Pictures of models with one-hot codes: those that show them, and those that are not possible."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from nelbo.distributions import OneHots, code_of
from nelbo.errors import ConfigError
from nelbo.models import VAE
from nelbo.pictures import Interpolation, Manifold, Picture, Posterior, Reconstructions, Samples, Traversal
from nelbo.pictures.latent import by_activity, settings
from nelbo.pictures.traversal import HELD, STEPS
from tests.helpers.factors import SHAPE, make_vae
from tests.helpers.scenes import make_scene

VARIABLES, CLASSES = 3, 4
"""Variables and classes of the tiny categorical model."""


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def make_model(posterior: str = "categorical", nets: str = "mlp") -> VAE:
    """Return a model in eval mode, with a prior that is not uniform."""
    model = make_vae(nets, posterior, "categorical").eval()
    model.prior.logits.normal_()  # type: ignore[union-attr, operator]
    return model


def test_a_traversal_sets_one_variable_to_each_class() -> None:
    model, x = make_model(), torch.rand(30, *SHAPE)
    drawn = Traversal(rows=None, columns=9, image=2, units=None, level=1)(make_scene(model, x))
    z, units = drawn.arrays["z"], drawn.arrays["units"]
    assert z.shape == (VARIABLES, CLASSES, VARIABLES, CLASSES)
    torch.testing.assert_close(drawn.arrays["x"][1, 3], model.decode(z[1, 3]).mean)
    start = code_of(model.encode(x[2:3]))[0]
    for row, unit in enumerate(units.tolist()):
        assert torch.equal(z[row, :, unit], torch.eye(CLASSES))
        others = [other for other in range(VARIABLES) if other != unit]
        assert torch.equal(z[row][:, others], start[others].expand(CLASSES, -1, -1))
    prior = model.prior(model.encode)
    assert isinstance(prior, OneHots)
    kl = (model.encode(x).mean * (model.encode(x).mean.log() - prior.logits)).sum(-1).mean(dim=0)  # type: ignore[attr-defined]
    assert units.tolist() == kl.argsort(descending=True).tolist()
    torch.testing.assert_close(drawn.arrays["kl"], kl[units])


def test_a_traversal_without_an_image_starts_at_the_most_probable_classes() -> None:
    model = make_model()
    drawn = Traversal(rows=1, columns=CLASSES, image=None, units=[1], level=1)(make_scene(model))
    (unit,) = drawn.arrays["units"].tolist()
    most = model.prior.logits.argmax(-1)  # type: ignore[union-attr, operator]
    code = drawn.arrays["z"][0].argmax(-1)
    assert code[:, unit].tolist() == list(range(CLASSES))
    assert all((code[:, other] == most[other]).all() for other in range(VARIABLES) if other != unit)


def test_a_moving_traversal_holds_each_class() -> None:
    drawn = Traversal(rows=2, columns=3, image=0, units=None, level=1)(make_scene(make_model(), torch.rand(9, *SHAPE)))
    assert drawn.frames is not None
    frames = list(drawn.frames())
    assert len(frames) == HELD * (2 * CLASSES - 2)
    assert len({frame.tobytes() for frame in frames}) == CLASSES


def test_units_are_set_to_at_most_the_given_number_of_classes() -> None:
    varied = settings(make_model(), 3, (torch.zeros(3, 4),))
    assert varied.names == ["0", "1", "2"] and varied.values.argmax(-1).tolist() == [[0] * 3, [1] * 3, [2] * 3]
    assert varied.description == "units set to 3 of 4 classes"
    assert settings(make_model(), 2, (torch.zeros(3, 4),)).names == ["0", "2"]
    assert settings(make_model(), STEPS, (torch.zeros(3, 4),)).description.endswith("each of 4 classes")


def test_activity_of_a_variable_is_the_sum_over_its_classes() -> None:
    """The first variable has the largest variance of a single class, and the smaller sum."""
    images = torch.tensor([[[0.6, 0.2, 0.2], [0.6, 0.2, 0.2]], [[0.16, 0.42, 0.42], [0.2, 0.6, 0.2]]])
    assert by_activity(images).tolist() == [1, 0]


def test_reconstructions_are_decoded_codes() -> None:
    model, x = make_model(), torch.rand(6, *SHAPE)
    arrays = Reconstructions(rows=2, columns=3)(make_scene(model, x)).arrays
    q = model.encode(x)
    code = torch.nn.functional.one_hot(q.mean.argmax(-1), CLASSES).float()
    assert torch.equal(arrays["z"], code) and not torch.equal(code, q.mean)
    torch.testing.assert_close(arrays["means"], model.decode(code).mean)


@pytest.mark.parametrize(("posterior", "nets"), [("categorical", "mlp"), ("vector_quantized", "conv")])
def test_every_other_kind_of_picture_draws_one_hot_codes(posterior: str, nets: str) -> None:
    model, x = make_model(posterior, nets), torch.rand(20, *SHAPE)
    scene = make_scene(model, x)
    samples = Samples(rows=2, columns=5, temperature=0.5, pixels="mean")(scene).arrays
    assert torch.equal(samples["z"].sum(-1), torch.ones(10, model.posterior.event_shape(3)[0]))
    for codes in ("mean", "sample"):
        arrays = Posterior(method="auto", codes=codes, limit=20)(scene).arrays
        width = math.prod(model.posterior.code_shape(3))
        assert arrays["z"].shape == (20, width) and arrays["prior"].shape[1] == 2
    assert Traversal(rows=2, columns=3, image=0, units=None, level=1)(scene).arrays["x"].shape[2:] == SHAPE


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (Interpolation(rows=2, columns=5, path="linear", levels="all"), "there is no path between two classes"),
        (Manifold(rows=2, columns=2, image=None, units=None), "classes have no quantiles"),
        (Manifold(rows=2, columns=2, image=1, units=None), "classes have no quantiles"),
    ],
)
def test_pictures_of_what_is_between_codes_are_an_error(picture: Picture, reason: str) -> None:
    model = make_vae(posterior="categorical", prior="uniform", latent_dim=2)
    with pytest.raises(ConfigError, match=f"run=tiny: has codes of classes, and {reason}; draw .* instead"):
        picture(make_scene(model, torch.rand(9, *SHAPE)))
