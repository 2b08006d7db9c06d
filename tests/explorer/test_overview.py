"""The KLs, ranges, planes and posteriors that the page shows."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import kl_divergence

from nelbo.errors import ConfigError
from nelbo.explorer.explored import Explored, Place
from nelbo.explorer.overview import PRIOR_POINTS, REACH, overview, plane_of
from nelbo.explorer.posterior import posterior_of
from nelbo.views.conditions import given
from tests.helpers.explorers import IMAGES, make_explored, make_model
from tests.helpers.scenes import make_scene

KINDS = ("plain", "two", "flow", "ladder", "top_down", "label", "surface")


@pytest.mark.parametrize("kind", ["plain", "label", "surface"])
@torch.no_grad()
def test_units_are_ordered_by_their_kl_over_images(kind: str) -> None:
    explored = make_explored(kind)
    setting = {"beta": 2.0, "latent_dim": 3} if kind == "surface" else {}
    scene = explored.at(setting)
    codes = overview(scene, IMAGES)
    everything = torch.arange(IMAGES)
    model = given(scene.model, scene.context(everything))
    q = model.encode(explored.images[everything])
    expected = kl_divergence(q.base_dist, torch.distributions.Normal(0.0, 1.0)).mean(0)  # type: ignore[attr-defined]
    (units,) = codes.levels
    assert units.kl is not None
    torch.testing.assert_close(units.kl, expected)
    assert units.order.tolist() == expected.argsort(descending=True).tolist()
    torch.testing.assert_close(codes.means, q.mean)
    if kind == "surface":
        assert units.kl[3] == 0
    assert (codes.low <= torch.minimum(codes.means.amin(0), torch.tensor(-REACH))).all()
    assert (codes.high >= torch.maximum(codes.means.amax(0), torch.tensor(REACH))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_has_an_overview_and_a_plane(kind: str) -> None:
    explored = make_explored(kind)
    codes = overview(explored.scene, 10)
    assert codes.positions.tolist() == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36]
    assert [units.event for units in codes.levels] == list(explored.model.events)
    for units, event in zip(codes.levels, explored.model.events, strict=True):
        assert sorted(units.order.tolist()) == list(range(event[0]))
        assert (units.kl is None) == (kind == "flow")
    plane = plane_of(codes, None)
    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2), rtol=1e-4, atol=1e-5)
    assert plane.project(codes.means).shape == (10, 2) and plane.project(codes.prior).shape == (PRIOR_POINTS, 2)
    torch.testing.assert_close(plane.project(codes.means).std(0).prod().sign(), torch.tensor(1.0))


def test_the_plane_of_more_latents_is_that_of_the_principal_components() -> None:
    codes = overview(make_explored("surface").scene, IMAGES)
    plane = plane_of(codes, None)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(codes.means.T)).flip(0)
    torch.testing.assert_close(plane.project(codes.means).var(0), eigenvalues[:2], rtol=1e-3, atol=1e-6)
    share = 100 * eigenvalues[0] / eigenvalues.sum()
    assert plane.names[0] == f"component 1 ({share:.0f}%)"
    chosen = plane_of(codes, [3, 1])
    assert chosen.names == ("unit 3", "unit 1")
    assert torch.equal(chosen.project(codes.means), codes.means[:, [3, 1]])
    for units in ([0, 4], [1, 1], [1]):
        with pytest.raises(ConfigError, match="must be two units from 0 to 3"):
            plane_of(codes, units)


def test_two_latents_are_shown_as_they_are_and_one_has_no_plane() -> None:
    codes = overview(make_explored("two").scene, IMAGES)
    assert torch.equal(plane_of(codes, None).project(codes.means), codes.means)
    with pytest.raises(ConfigError, match="needs two latents, and the top level has one"):
        one = overview(make_explored("two").scene, IMAGES)
        plane_of(type(one)(**{**vars(one), "means": one.means[:, :1]}), None)


@pytest.mark.parametrize("kind", ["plain", "ladder", "top_down", "flow"])
@torch.no_grad()
def test_the_posterior_of_an_image(kind: str) -> None:
    explored = make_explored(kind)
    model, x = explored.model, explored.images[torch.tensor([7])]
    shown = posterior_of(explored, Place(7, {}))
    assert torch.equal(shown.x, x[0]) and shown.label == 7 % 3 and len(shown.levels) == len(model.events)
    if kind == "flow":
        assert shown.levels[0].kl is None and shown.levels[0].deviation.shape == model.events[0]
        return
    trace = model.draw(x, model.infer(x), 1, mode=True)
    assert shown.distortion == pytest.approx(-float(trace.log_px), rel=1e-5)
    top = model.encode(x)
    torch.testing.assert_close(shown.levels[0].mean, top.mean[0])
    torch.testing.assert_close(shown.levels[0].deviation, top.stddev[0])
    for level, latent in zip(shown.levels, trace.latents, strict=True):
        assert level.kl is not None and level.total == pytest.approx(float(latent.kl), rel=1e-4)
        assert float(level.kl.sum()) == pytest.approx(float(latent.kl), rel=1e-4)
    for level, latent in zip(shown.levels[1:], trace.latents[1:], strict=True):
        ratio = (latent.q.stddev / latent.p.stddev)[0, 0].flatten(1 if latent.z.ndim > 3 else 0)
        expected = ratio.square().mean(-1).sqrt() if latent.z.ndim > 3 else ratio
        torch.testing.assert_close(level.deviation, expected)


def test_codes_of_classes_are_refused_with_what_to_use_instead() -> None:
    from tests.helpers.factors import make_vae

    model = make_vae("mlp", "vector_quantized", "uniform", "bernoulli").eval()
    with pytest.raises(ConfigError) as refused:
        Explored(make_scene(model, torch.rand(3, *model.shape)))
    assert str(refused.value) == (
        "run=tiny: has codes of classes, which are no numbers to drag; use nelbo draw traversal or nelbo draw samples"
    )
    with pytest.raises(ConfigError, match="split=test: has no images"):
        Explored(make_scene(make_model("plain"), torch.rand(0, 1, 6, 5)))  # type: ignore[arg-type]
