"""Every kind of picture: arrays with known values, projections with a known result, and invalid options."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.pictures import (
    Interpolation,
    Manifold,
    Picture,
    Posterior,
    Reconstructions,
    Samples,
    Scene,
    Traversal,
)
from nelbo.pictures.files import check
from nelbo.pictures.interpolation import between
from nelbo.pictures.latent import by_activity, moved, plane, prior_quantiles
from nelbo.pictures.projections import METHODS
from nelbo.pictures.traversal import back_and_forth
from tests.helpers.factors import POSTERIORS, PRIORS, SHAPE, make_vae
from tests.helpers.scenes import COUNT, make_scene


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def kinds(image: int | None = 2, units: list[int] | None = None) -> list[Picture]:
    return [
        Samples(rows=2, columns=5, temperature=1.0, pixels="mean"),
        Samples(rows=2, columns=5, temperature=1.0, pixels="sample"),
        Reconstructions(rows=2, columns=5),
        Traversal(rows=2, columns=5, image=image, units=units, level=1),
        Interpolation(rows=2, columns=5, path="spherical", levels="all"),
        Manifold(rows=2, columns=5, image=image, units=units),
        Posterior(method="pca", codes="sample", limit=20),
    ]


PAIRS = [(posterior, "standard_normal") for posterior in POSTERIORS]
PAIRS += [("diagonal_normal", prior) for prior in PRIORS if prior != "standard_normal"]


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_every_kind_draws_every_model(posterior: str, prior: str) -> None:
    scene = make_scene(make_vae(posterior=posterior, prior=prior), torch.rand(COUNT, *SHAPE))
    for picture in kinds():
        drawing = picture(scene)
        assert drawing.still.mode == "RGB" and drawing.still.getpixel((0, 0)) == (255, 255, 255)
        assert all(array.isfinite().all() for array in drawing.arrays.values())


def test_the_prior_needs_no_data() -> None:
    """Neither does a manifold of two latents. With more units a picture needs data unless the units are given."""
    scene = make_scene(make_vae(prior="mixture"))
    without_data = [Samples, Traversal, Manifold]
    for picture in kinds(image=None, units=[2, 0]):
        if type(picture) in without_data:
            arrays = picture(scene).arrays
            assert isinstance(picture, Samples) or (arrays["units"].tolist() == [2, 0] and "kl" not in arrays)
        else:
            with pytest.raises(AssertionError, match="asked for images"):
                picture(scene)
    for picture in (kinds(image=None)[3], kinds(image=None)[5]):
        with pytest.raises(AssertionError, match="asked for images"):
            picture(scene)
    flat = Manifold(rows=2, columns=3, image=None, units=None)(make_scene(make_vae(latent_dim=2))).arrays
    assert flat["units"].tolist() == [0, 1]


def test_units_are_ranked_by_their_kl_on_data_and_not_by_the_models_own_samples() -> None:
    """Unit 1 has the largest KL and the smallest variance of its mean; the decoder uses only unit 2."""
    model = make_vae("linear", likelihood="gaussian_fixed")
    head = next(layer for layer in model.posterior.modules() if isinstance(layer, torch.nn.Linear))
    decoder = next(layer for layer in model.likelihood.modules() if isinstance(layer, torch.nn.Linear))
    head.weight.zero_()
    head.bias.zero_()
    head.weight[0, 0], head.weight[1, 0], head.weight[2, 29] = 2.0, 0.1, 5.0  # the last pixel is constant
    head.bias[3:] = torch.tensor([0.0, -3.0, 0.0])  # log sigma
    decoder.weight.zero_()
    decoder.weight[29, 2] = 1.0
    images = torch.rand(COUNT, *SHAPE)
    images[:, 0, -1, -1] = 0.0
    scene = make_scene(model, images)
    for image in (None, 4):
        arrays = Traversal(rows=None, columns=3, image=image, units=None, level=1)(scene).arrays
        assert arrays["units"].tolist() == [1, 0, 2]
        assert torch.equal(arrays["kl"], arrays["kl"].sort(descending=True).values) and arrays["kl"][2] < 1e-6
        assert Manifold(rows=2, columns=2, image=image, units=None)(scene).arrays["units"].tolist() == [0, 1]


def test_shapes_of_the_arrays() -> None:
    scene = make_scene(make_vae(), torch.rand(COUNT, *SHAPE))
    shapes = [{name: tuple(array.shape) for name, array in picture(scene).arrays.items()} for picture in kinds()]
    assert shapes[0] == shapes[1] == {"x": (10, *SHAPE), "z": (10, 3)}
    assert shapes[2] == {"x": (10, *SHAPE), "means": (10, *SHAPE), "z": (10, 3), "labels": (10,)}
    assert shapes[3] == {"x": (2, 5, *SHAPE), "z": (2, 5, 3), "units": (2,), "kl": (2,)}
    assert shapes[4] == {"x": (2, 5, *SHAPE), "z": (2, 5, 3), "inputs": (2, 2, *SHAPE), "labels": (2, 2)}
    assert shapes[5] == {"x": (2, 5, *SHAPE), "z": (2, 5, 3), "units": (2,)}
    assert shapes[6] == {"z": (20, 3), "points": (20, 2), "labels": (20,), "prior": (2000, 2)}


def test_a_lower_temperature_gives_narrower_samples() -> None:
    def codes(temperature: float) -> Tensor:
        torch.manual_seed(0)
        return Samples(rows=10, columns=30, temperature=temperature, pixels="mean")(make_scene(make_vae())).arrays["z"]

    full, half = codes(1.0), codes(0.5)
    assert torch.allclose(half, 0.5 * full) and 0.45 < half.std() < 0.55


def test_reconstructions_are_those_of_the_images_above_them() -> None:
    images = torch.rand(COUNT, *SHAPE)
    model = make_vae()
    arrays = Reconstructions(rows=2, columns=5)(make_scene(model, images)).arrays
    assert torch.equal(arrays["x"], images[::3]) and torch.equal(arrays["labels"], torch.arange(COUNT)[::3] % 3)
    assert torch.allclose(arrays["means"], model.decode(model.encode(images[::3]).mean).mean, atol=1e-6)


def test_a_split_smaller_than_the_grid() -> None:
    scene = make_scene(make_vae(), torch.rand(3, *SHAPE))
    assert len(Reconstructions(rows=4, columns=10)(scene).arrays["x"]) == 3
    assert len(Interpolation(rows=4, columns=3, path="linear", levels="all")(scene).arrays["x"]) == 1
    with pytest.raises(ConfigError, match="split=test: has 2 images; a picture of the posterior needs 3"):
        Posterior(method="auto", codes="mean", limit=5000)(make_scene(make_vae(), torch.rand(2, *SHAPE)))
    with pytest.raises(ConfigError, match="limit=2: must be at least 3"):
        Posterior(method="auto", codes="mean", limit=2)(scene)
    with pytest.raises(ConfigError, match="split=test: has one image"):
        Interpolation(rows=1, columns=2, path="linear", levels="all")(make_scene(make_vae(), torch.rand(1, *SHAPE)))


def test_a_traversal_varies_one_unit_per_row_over_the_quantiles_of_its_prior() -> None:
    images = torch.rand(COUNT, *SHAPE)
    model = make_vae()
    arrays = Traversal(rows=None, columns=3, image=4, units=None, level=1)(make_scene(model, images)).arrays
    means = model.encode(images).mean
    for row, unit in enumerate(arrays["units"].tolist()):
        assert torch.allclose(arrays["z"][row, :, unit], torch.tensor([-1.959964, 0, 1.959964]), atol=1e-5)
        others = [other for other in range(3) if other != unit]
        assert torch.allclose(arrays["z"][row][:, others], means[4, others].expand(3, 2), atol=1e-6)
    q = model.encode(images)
    kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).mean(dim=0)
    assert torch.equal(arrays["units"], kl.argsort(descending=True))
    assert torch.allclose(arrays["kl"], kl[arrays["units"]], atol=1e-5)


def test_units_that_do_not_factorise_have_no_kl() -> None:
    scene = make_scene(make_vae(posterior="full_normal"), torch.rand(COUNT, *SHAPE))
    assert "kl" not in Traversal(rows=2, columns=3, image=0, units=None, level=1)(scene).arrays


def test_a_manifold_fixes_the_other_units() -> None:
    images = torch.rand(COUNT, *SHAPE)
    model = make_vae()
    arrays = Manifold(rows=3, columns=5, image=1, units=None)(make_scene(model, images)).arrays
    first, second = arrays["units"].tolist()
    (other,) = {0, 1, 2} - {first, second}
    z, quantiles = arrays["z"], prior_quantiles(model, 5)
    assert torch.equal(z[0, :, first], quantiles[:, first]) and torch.equal(z[2, :, first], quantiles[:, first])
    assert torch.equal(z[:, 0, second], prior_quantiles(model, 3)[:, second].flip(0))  # the largest is at the top
    assert torch.allclose(z[..., other], model.encode(images[1:2]).mean[0, other].expand(3, 5), atol=1e-6)
    with pytest.raises(ConfigError, match="has one latent"):
        Manifold(rows=3, columns=5, image=None, units=None)(make_scene(make_vae(latent_dim=1)))


def test_quantiles_of_any_prior() -> None:
    """They are exact for a Gaussian, and those of samples otherwise, which are close to the exact ones."""
    gaussian = make_vae(prior="diagonal_normal")
    prior = gaussian.prior(gaussian.encode)
    expected = prior.mean + prior.stddev * torch.tensor([[-1.959964], [0], [1.959964]])
    assert torch.allclose(prior_quantiles(gaussian, 3), expected)
    flow = make_vae(prior="flow_coupling")
    samples = flow.prior(flow.encode).sample(torch.Size((20_000,)))
    exact = samples.quantile(torch.tensor([0.025, 0.5, 0.975]), dim=0)
    assert (prior_quantiles(flow, 3) - exact).abs().max() < 0.2


def test_moved_and_plane_do_not_change_the_code() -> None:
    z = torch.zeros(3)
    values = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert moved(z, torch.tensor([2, 0]), values).tolist() == [[[0, 0, 3], [0, 0, 6]], [[1, 0, 0], [4, 0, 0]]]
    assert plane(z, (0, 2), values, values).tolist() == [[[1, 0, 6], [4, 0, 6]], [[1, 0, 3], [4, 0, 3]]]
    assert z.tolist() == [0, 0, 0]
    assert by_activity(torch.tensor([[0.0, 5.0, 1.0], [0.0, -5.0, 2.0]])).tolist() == [1, 2, 0]


def test_paths_between_codes() -> None:
    a, b = torch.tensor([[2.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [3.0, 3.0]])
    linear, spherical = between(a, b, 3, "linear"), between(a, b, 3, "spherical")
    for path in (linear, spherical):
        assert torch.allclose(path[:, 0], a) and torch.allclose(path[:, -1], b)
    assert torch.allclose(linear[:, 1], torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    # A rotation by 90 degrees has its middle at 45 degrees, as far from the origin as both ends. Codes in the same
    # direction are connected by a line.
    assert torch.allclose(spherical[:, 1], torch.tensor([[math.sqrt(2), math.sqrt(2)], [2.0, 2.0]]))
    near = between(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.cos(0.1), math.sin(0.1)]]), 3, "spherical")
    # The middle of a line would be 0.1% closer to the origin.
    assert torch.allclose(near[0, 1], torch.tensor([math.cos(0.05), math.sin(0.05)]))
    apart = between(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]), 5, "spherical")
    assert apart.isfinite().all()
    assert between(torch.zeros(1, 2), torch.ones(1, 2), 5, "spherical").isfinite().all()


def test_back_and_forth_is_a_loop() -> None:
    assert list(back_and_forth(4)) == [0, 1, 2, 3, 2, 1]


def test_pca_recovers_the_plane_and_projects_the_prior_to_it() -> None:
    plane_of = torch.linalg.qr(torch.randn(5, 5)).Q[:2]
    inside = torch.randn(400, 2) * torch.tensor([3.0, 1.0])
    projection = METHODS["pca"](inside @ plane_of, torch.zeros(1, 5), 0)
    centred = inside - inside.mean(dim=0)
    assert torch.allclose(projection.codes.square().sum(dim=1), centred.square().sum(dim=1), rtol=1e-3, atol=1e-3)
    assert projection.subtitle == "PCA, 100% of the variance explained"
    assert projection.prior is not None
    assert torch.allclose(projection.prior.norm(), inside.mean(dim=0).norm(), atol=1e-4)


def test_tsne_keeps_groups_apart() -> None:
    codes = torch.cat([torch.randn(40, 4) - 20, torch.randn(40, 4) + 20])
    projection = METHODS["tsne"](codes, codes, 0)
    first, second = projection.codes[:40], projection.codes[40:]
    assert torch.cdist(first, second).min() > torch.cdist(first, first).max() and projection.prior is None
    assert torch.equal(projection.codes, METHODS["tsne"](codes, codes, 0).codes)


@pytest.mark.slow
def test_umap_keeps_groups_apart() -> None:
    """Takes half a minute, most of it for compilation by numba."""
    pytest.importorskip("numba")
    codes = torch.cat([torch.randn(40, 4) - 20, torch.randn(40, 4) + 20])
    projection = METHODS["umap"](codes, codes, 0)
    first, second = projection.codes[:40], projection.codes[40:]
    assert torch.cdist(first, second).min() > torch.cdist(first, first).max()


def test_methods_that_cannot_be_used_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randn(10, 3)
    with pytest.raises(ConfigError, match="method=none: needs two latents, and the model has 3; use method=pca"):
        METHODS["none"](codes, codes, 0)
    with pytest.raises(ConfigError, match="method=tsne: needs at least two latents, and the model has one"):
        METHODS["tsne"](codes[:, :1], codes[:, :1], 0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="method=umap: needs a package: pip install umap-learn"):
        Posterior(method="umap", codes="mean", limit=10)
    with pytest.raises(ConfigError, match="out=x.mp4: needs a package: pip install imageio-ffmpeg; or use .gif"):
        check(Path("x.mp4"), Traversal(rows=1, columns=2, image=0, units=None, level=1))


@pytest.mark.parametrize("method", ["auto", "none", "pca", "tsne"])
def test_the_posterior_of_one_latent_is_an_error_of_the_run_and_not_of_the_method(method: str) -> None:
    scene = make_scene(make_vae(latent_dim=1))  # without data: the error is raised before images are encoded
    with pytest.raises(ConfigError, match="run=tiny: has one latent, and this picture needs two; draw a traversal"):
        Posterior(method=method, codes="mean", limit=COUNT)(scene)


def test_the_posterior_of_images_without_labels_and_with_few_or_many_classes() -> None:
    images = torch.rand(COUNT, *SHAPE)
    for labels in (torch.full((COUNT,), -1), torch.arange(COUNT) % 3, torch.arange(COUNT) % 12, torch.arange(COUNT)):
        scene = make_scene(make_vae(latent_dim=2), images, labels)
        opened = scene.images
        scene = Scene("tiny", scene.model, scene.device, "test", lambda opened=opened: (opened, ()), 7)
        still = Posterior(method="auto", codes="mean", limit=COUNT)(scene).still
        assert len(still.getcolors(1_000_000)) > 50


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Samples, {"rows": 0, "columns": 1, "temperature": 1.0, "pixels": "mean"}, "rows=0"),
        (Samples, {"rows": 1, "columns": 1, "temperature": 0.0, "pixels": "mean"}, "temperature=0.0"),
        (Samples, {"rows": 1, "columns": 1, "temperature": 1.0, "pixels": "median"}, "pixels=median"),
        (Traversal, {"rows": 1, "columns": 1, "image": -1, "units": None, "level": 1}, "image=-1"),
        (Traversal, {"rows": 1, "columns": 1, "image": 0, "units": [], "level": 1}, "must be null, or a list of units"),
        (Traversal, {"rows": 1, "columns": 1, "image": 0, "units": [0, 0], "level": 1}, "must be different units"),
        (Traversal, {"rows": 1, "columns": 1, "image": 0, "units": [-1], "level": 1}, "units=-1"),
        (Traversal, {"rows": 1, "columns": 1, "image": 0, "units": None, "level": 0}, "level=0"),
        (
            Interpolation,
            {"rows": 1, "columns": 2, "path": "linear", "levels": "last"},
            "levels=last: must be one of all, top",
        ),
        (Manifold, {"rows": 1, "columns": 1, "image": 0, "units": [1]}, "must be 2 different units"),
        (Interpolation, {"rows": 1, "columns": 1, "path": "linear", "levels": "all"}, "columns=1"),
        (Interpolation, {"rows": 1, "columns": 2, "path": "straight", "levels": "all"}, "path=straight"),
        (Posterior, {"method": "lda", "codes": "mean", "limit": 5}, "method=lda"),
        (Posterior, {"method": "pca", "codes": "mean", "limit": 0}, "limit=0"),
    ],
)
def test_invalid_options(kind: type[Picture], options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**options)


def test_an_unknown_unit_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"units=\[0, 3\]: the model has units 0 to 2"):
        Manifold(rows=1, columns=2, image=None, units=[0, 3])(make_scene(make_vae()))


def test_an_unknown_image_is_an_error() -> None:
    with pytest.raises(ConfigError, match="image=30: the test split has images 0 to 29"):
        Traversal(rows=1, columns=2, image=30, units=None, level=1)(make_scene(make_vae(), torch.rand(COUNT, *SHAPE)))
