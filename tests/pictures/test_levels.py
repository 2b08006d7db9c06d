"""Pictures of models with several levels of latents: which level carries what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.models import Hierarchy
from nelbo.pictures import (
    KL,
    Interpolation,
    KLMaps,
    LevelReconstructions,
    LevelSamples,
    Manifold,
    Picture,
    Posterior,
    Reconstructions,
    Samples,
    Traversal,
)
from nelbo.pictures.levels import chosen_numbers, spread
from nelbo.views.codes import modes
from nelbo.views.level_kls import over_image
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import LATENT_DIM, SHAPE, make_vae
from tests.helpers.gaussian_levels import LinearLevels
from tests.helpers.scenes import COUNT, make_scene

KINDS = ["ladder", "top_down"]


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def make_model(kind: str = "ladder", prior: str = "standard_normal", **options: object) -> Hierarchy:
    """Return a hierarchy with random parameters: with the initial ones p(z|above) does not depend on what is above."""
    model = make_hierarchy(kind, prior=prior, **options).eval()
    for parameter in model.parameters():
        parameter.normal_(0, 0.4)
    return model


def pictures(level: int) -> list[Picture]:
    return [
        KL(limit=20),
        Samples(rows=2, columns=5, temperature=[1, 0.5, 0], pixels="sample"),
        Reconstructions(rows=2, columns=5),
        LevelSamples(rows=2, columns=5, upper=None, temperature=0.8),
        LevelReconstructions(rows=2, columns=5, upper=None),
        Traversal(rows=2, columns=5, image=2, units=None, level=level),
        Traversal(rows=2, columns=5, image=None, units=[1, 0], level=level),
        Interpolation(rows=2, columns=5, path="spherical", levels="all"),
        Interpolation(rows=2, columns=5, path="linear", levels="top"),
        Manifold(rows=2, columns=5, image=2, units=None),
        Posterior(method="auto", codes="mean", limit=20),
    ]


@pytest.mark.parametrize(("prior", "level"), [("standard_normal", 1), ("mixture", 2), ("flow_spline", 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_every_hierarchy(kind: str, prior: str, level: int) -> None:
    scene = make_scene(make_model(kind, prior), torch.rand(COUNT, *SHAPE))
    for picture in [*pictures(level), *([KLMaps(columns=3, limit=20)] if kind == "top_down" else [])]:
        drawing = picture(scene)
        assert drawing.still.mode == "RGB" and drawing.still.getpixel((0, 0)) == (255, 255, 255)
        assert all(array.isfinite().all() for array in drawing.arrays.values())


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_several_levels_have_a_temperature_each(kind: str) -> None:
    model = make_model(kind)
    drawn = Samples(rows=2, columns=5, temperature=[1, 0.5, 0], pixels="mean")(make_scene(model)).arrays
    zs = [drawn[name] for name in ("z1", "z2", "z3")]
    assert [tuple(z.shape) for z in zs] == [(10, *event) for event in model.events]
    torch.testing.assert_close(drawn["x"], model.decode(*zs).mean)
    torch.testing.assert_close(zs[2], model.sample(10, 0, above=zs[:2])[2])
    assert not torch.allclose(zs[1], model.sample(10, 0, above=zs[:1])[1], atol=1e-2)
    with pytest.raises(ConfigError, match=r"temperature=\[1.0, 0.5\]: must be one number, or one for each of 3 levels"):
        Samples(rows=2, columns=5, temperature=[1, 0.5], pixels="mean")(make_scene(model))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_row_share_the_upper_levels_only(kind: str) -> None:
    model = make_model(kind)
    drawn = LevelSamples(rows=3, columns=4, upper=None, temperature=1.0)(make_scene(model)).arrays
    assert drawn["upper"].tolist() == [1, 2] and drawn["x"].shape == (2, 3, 4, *SHAPE)
    for block, shared in enumerate([1, 2]):
        for number in (1, 2, 3):
            z = drawn[f"z{number}"][block].flatten(2)
            first = z[:, :1].expand_as(z)
            assert torch.equal(z, first) if number <= shared else bool((z != first)[:, 1:].all())
            assert bool((z[0, 0] != z[1, 0]).all())  # rows differ
    assert torch.equal(drawn["z1"][0], drawn["z1"][1])  # both blocks start from the same draws
    torch.testing.assert_close(drawn["x"], model.decode(*(drawn[f"z{number}"] for number in (1, 2, 3))).mean)
    single = LevelSamples(rows=3, columns=4, upper=2, temperature=1.0)(make_scene(model)).arrays
    assert single["upper"].tolist() == [2] and single["x"].shape == (1, 3, 4, *SHAPE)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_from_the_upper_levels_have_those_below_at_their_mode(kind: str) -> None:
    model, images = make_model(kind), torch.rand(COUNT, *SHAPE)
    drawn = LevelReconstructions(rows=2, columns=5, upper=None)(make_scene(model, images)).arrays
    codes = modes(model, drawn["x"])
    assert drawn["upper"].tolist() == [1, 2, 3]
    for means, count in zip(drawn["means"], (1, 2, 3), strict=True):
        zs = model.sample(10, 0, above=codes[:count])
        torch.testing.assert_close(means, model.decode(*zs).mean)
    assert not torch.allclose(drawn["means"][0], drawn["means"][2], atol=1e-3)
    whole = Reconstructions(rows=2, columns=5)(make_scene(model, images)).arrays
    torch.testing.assert_close(drawn["means"][2], whole["means"])
    for z, code in zip((whole["z1"], whole["z2"], whole["z3"]), codes, strict=True):
        torch.testing.assert_close(z, code)


@pytest.mark.parametrize("kind", KINDS)
def test_spread_is_that_of_the_prior_given_the_levels_above(kind: str) -> None:
    model, x = make_model(kind), torch.rand(1, *SHAPE)
    latents = model.draw(x, model.infer(x), 1, mode=True).latents
    for level in (0, 1, 2):
        above = [latent.z[0, 0] for latent in latents[:level]]
        p = latents[level].p
        mean, deviation = spread(model, above)
        torch.testing.assert_close(mean, p.mean.squeeze(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(deviation, p.stddev.squeeze(), atol=1e-5, rtol=1e-4)


def test_units_of_a_lower_level_are_varied_over_the_quantiles_given_the_levels_above() -> None:
    model, images = make_model(), torch.rand(COUNT, *SHAPE)
    drawn = Traversal(rows=2, columns=3, image=4, units=None, level=2)(make_scene(model, images)).arrays
    codes = modes(model, images[4:5])
    latent = model.draw(images[4:5], model.infer(images[4:5]), 1, mode=True).latents[1]
    z2, units = drawn["z2"], drawn["units"].tolist()
    assert "z3" not in drawn and torch.equal(drawn["z1"], codes[0].expand(2, 3, -1))
    quantiles = latent.p.mean[0, 0] + latent.p.stddev[0, 0] * torch.tensor([[-1.959964], [0.0], [1.959964]])
    for row, unit in enumerate(units):
        torch.testing.assert_close(z2[row, :, unit], quantiles[:, unit], atol=1e-5, rtol=1e-4)
        others = [other for other in range(4) if other != unit]
        torch.testing.assert_close(z2[row][:, others], codes[1][0, others].expand(3, -1))
    below = model.sample(1, 0, above=(drawn["z1"][1, 2:], z2[1, 2:]))
    torch.testing.assert_close(drawn["x"][1, 2:], model.decode(*below).mean)
    assert torch.equal(drawn["kl"], drawn["kl"].sort(descending=True).values)


def test_a_channel_of_a_map_is_shifted_everywhere_by_standard_deviations() -> None:
    model, images = make_model("top_down"), torch.rand(COUNT, *SHAPE)
    drawn = Traversal(rows=None, columns=5, image=4, units=None, level=3)(make_scene(model, images)).arrays
    latent = model.draw(images[4:5], model.infer(images[4:5]), 1, mode=True).latents[2]
    code, deviation = latent.z[0, 0], latent.p.stddev[0, 0]
    assert drawn["z3"].shape == (2, 5, 2, 3, 3) and sorted(drawn["units"].tolist()) == [0, 1]
    for row, unit in enumerate(drawn["units"].tolist()):
        for column, steps in enumerate((-2, -1, 0, 1, 2)):
            z = drawn["z3"][row, column]
            torch.testing.assert_close(z[unit], code[unit] + steps * deviation[unit], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(z[1 - unit], code[1 - unit])


@pytest.mark.parametrize("kind", KINDS)
def test_the_kl_of_levels_and_units_is_that_of_traces(kind: str) -> None:
    model, images = make_model(kind), torch.rand(COUNT, *SHAPE)
    scene = make_scene(model, images)
    torch.manual_seed(3)
    drawn = KL(limit=COUNT)(scene).arrays
    torch.manual_seed(3)
    traces = [model.trace(x) for x in images.split(scene.batch_size)]
    torch.testing.assert_close(drawn["kl"].sum(), torch.cat([trace.kl[0] for trace in traces]).mean())
    for number, event in enumerate(model.events, start=1):
        kl = torch.cat([trace.latents[number - 1].unit_kl for trace in traces]).mean(dim=0)
        torch.testing.assert_close(drawn[f"kl{number}_units"], kl)
        torch.testing.assert_close(kl.sum(), drawn["kl"][number - 1])
        assert (f"kl{number}_places" in drawn) == (len(event) == 3)
        if len(event) == 3:
            assert drawn[f"kl{number}_places"].shape == event[1:]
            torch.testing.assert_close(drawn[f"kl{number}_places"].sum(), kl.sum())
    if kind == "ladder":
        torch.manual_seed(3)
        ranked = Traversal(rows=None, columns=2, image=0, units=None, level=3)(scene).arrays
        assert ranked["units"].tolist() == drawn["kl3_units"].argsort(descending=True).tolist()
        torch.testing.assert_close(ranked["kl"], drawn["kl3_units"][ranked["units"]])


def test_units_of_one_level_have_a_kl_and_units_that_depend_on_each_other_have_none() -> None:
    scene = make_scene(make_vae(), torch.rand(COUNT, *SHAPE))
    drawn = KL(limit=20)(scene).arrays
    assert drawn["kl1_units"].shape == (3,) and drawn["kl"].shape == (1,)
    dependent = KL(limit=20)(make_scene(make_model(prior="mixture"), torch.rand(COUNT, *SHAPE))).arrays
    assert "kl1_units" not in dependent and dependent["kl2_units"].shape == (4,) and dependent["kl"].shape == (3,)


def test_kl_maps_are_drawn_over_images() -> None:
    model, images = make_model("top_down"), torch.rand(COUNT, *SHAPE)
    drawn = KLMaps(columns=4, limit=COUNT)(make_scene(model, images)).arrays
    assert {name: tuple(array.shape) for name, array in drawn.items()} == {
        "x": (4, *SHAPE), "kl2": (4, 3, 3), "kl2_average": (3, 3), "kl3": (4, 3, 3), "kl3_average": (3, 3)
    }  # fmt: skip
    places = torch.zeros(1, 3, 3)
    places[0, 0, 2] = 2.0
    over = over_image(torch.full((1, 1, 6, 6), 0.5), places, 2.0)
    bright = (over.mean(1) > 0.6)[0]
    assert bright[:2, 4:].all() and bright.sum() == 4


def test_a_path_at_the_top_level_has_the_levels_below_at_their_mode() -> None:
    model, images = make_model("top_down"), torch.rand(COUNT, *SHAPE)
    scene = make_scene(model, images)
    whole = Interpolation(rows=2, columns=3, path="linear", levels="all")(scene).arrays
    top = Interpolation(rows=2, columns=3, path="linear", levels="top")(scene).arrays
    ends = modes(model, whole["inputs"].flatten(0, 1))
    torch.testing.assert_close(whole["z3"][0, 0], ends[2][0])
    torch.testing.assert_close(whole["z3"][:, 1], ends[2].unflatten(0, (2, 2)).mean(dim=1))
    torch.testing.assert_close(whole["x"][0, 2], model.decode(*ends).mean[1])
    assert torch.equal(top["z1"], whole["z1"]) and "z2" not in top
    torch.testing.assert_close(top["x"], model.decode(*below_modes(model, top["z1"])).mean)


def below_modes(model: Hierarchy, top: Tensor) -> list[Tensor]:
    """Return z of all levels, (R, K, *event), those below the top at the mode of p(z|above)."""
    zs = model.sample(top[..., 0].numel(), 0, above=(top.flatten(0, 1),))
    return [z.unflatten(0, top.shape[:2]) for z in zs]


def test_a_manifold_of_several_levels_is_that_of_the_top() -> None:
    model = make_model(levels=[2, 4, 3])
    drawn = Manifold(rows=3, columns=4, image=None, units=None)(make_scene(model)).arrays
    assert drawn["z1"].shape == (3, 4, 2)
    torch.testing.assert_close(drawn["x"], model.decode(*below_modes(model, drawn["z1"])).mean)


def test_a_map_at_the_top_has_channels_and_no_manifold() -> None:
    model = LinearLevels([(2, 1, 3), (4,)]).eval()
    scene = make_scene(model, torch.rand(COUNT, *model.shape, dtype=torch.float64))
    drawn = Traversal(rows=None, columns=3, image=4, units=None, level=1)(scene).arrays
    (code, _), prior = modes(model, scene.images[torch.tensor([4])]), model.top_prior()
    for row, unit in enumerate(drawn["units"].tolist()):
        for column, steps in enumerate((-2, 0, 2)):
            z = drawn["z1"][row, column]
            torch.testing.assert_close(z[unit], code[0, unit] + steps * prior.stddev[unit])
            torch.testing.assert_close(z[1 - unit], code[0, 1 - unit])
    assert KLMaps(columns=2, limit=9)(scene).arrays["kl1"].shape == (2, 1, 3)
    with pytest.raises(ConfigError, match="run=tiny: has maps at its top level, .* draw a traversal"):
        Manifold(rows=2, columns=2, image=None, units=None)(scene)


def test_numbers_of_upper_levels() -> None:
    assert [chosen_numbers(None, largest) for largest in (1, 2, 5, 6, 40)] == [
        [1], [1, 2], [1, 2, 3, 4, 5], [1, 2, 3, 4, 6], [1, 10, 20, 30, 40]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (LevelSamples(rows=1, columns=1, upper=None, temperature=1.0), "this picture needs two; draw samples instead"),
        (LevelReconstructions(rows=1, columns=1, upper=None), "this picture needs two; draw reconstructions instead"),
        (KLMaps(columns=1, limit=9), r"run=tiny: has no level of maps \(C, h, w\), .* draw kl instead"),
        (Traversal(rows=1, columns=1, image=0, units=None, level=2), "level=2: the model has one level of latents"),
        (Samples(rows=1, columns=1, temperature=[1, 1], pixels="mean"), "one number, or one for each of 1 levels"),
    ],
)
def test_pictures_of_levels_are_an_error_of_a_model_with_one(picture: Picture, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        picture(make_scene(make_vae(), torch.rand(COUNT, *SHAPE)))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (LevelSamples(rows=1, columns=1, upper=3, temperature=1.0), "upper=3: must be at most 2 here"),
        (LevelReconstructions(rows=1, columns=1, upper=[1, 4]), r"upper=\[1, 4\]: must be at most 3 here"),
        (KLMaps(columns=1, limit=9), "has no level of maps"),
        (Traversal(rows=1, columns=1, image=0, units=None, level=4), r"level=4: the model has levels 1 \(top\) to 3"),
        (Traversal(rows=1, columns=1, image=0, units=[2], level=3), r"units=\[2\]: level 3 has units 0 to 1"),
        (Manifold(rows=1, columns=1, image=None, units=[0, 3]), r"units=\[0, 3\]: level 1 has units 0 to 2"),
    ],
)
def test_levels_that_a_model_does_not_have_are_an_error(picture: Picture, message: str) -> None:
    assert LATENT_DIM == 3
    with pytest.raises(ConfigError, match=message):
        picture(make_scene(make_model(), torch.rand(COUNT, *SHAPE)))


def test_a_deterministic_code_has_no_kl() -> None:
    scene = make_scene(make_vae(posterior="deterministic"), torch.rand(COUNT, *SHAPE))
    with pytest.raises(ConfigError, match="run=tiny: has a deterministic code, whose KL is not defined"):
        KL(limit=9)(scene)


@pytest.mark.parametrize("upper", [0, [], [1, 1], "all", 1.5])
def test_invalid_numbers_of_upper_levels(upper: object) -> None:
    for kind in (LevelSamples, LevelReconstructions):
        options = {"rows": 1, "columns": 1, "upper": upper}
        with pytest.raises(ConfigError, match="^upper"):
            kind(**options, **({"temperature": 1.0} if kind is LevelSamples else {}))  # type: ignore[arg-type]
