"""Every size may be one: latents, categorical variables, pixels, channels, images, batch, samples, classes.

Libraries drop or broadcast a dimension of one without a word, and sweeps begin there.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from nelbo import evaluation, pictures
from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError
from nelbo.evaluation.measure import Findings, Measure, NotApplicable
from nelbo.heads import Beta, Categorical, CategoricalPosterior, DiscretizedLogistic
from nelbo.metrics import ActiveUnits, KLPerUnit, MutualInformation, standard_metrics
from nelbo.objectives import DIP, BetaTC, FactorVAE, FreeBits, Objective
from nelbo.pictures import Picture, Scene
from nelbo.pictures.projections import pca
from nelbo.trace import Latent, Trace
from tests.helpers.factors import (
    CODE_POSTERIORS,
    CODE_PRIORS,
    LIKELIHOODS,
    OBJECTIVES,
    POSTERIORS,
    PRIORS,
    images,
    make_vae,
    prepared,
    refusal,
)
from tests.helpers.forks import forked, train_all
from tests.helpers.subjects import TensorSplit, make_subject

# Shape of the images, images in a batch, latent dimensions or variables, samples.
SIZES: dict[str, tuple[tuple[int, int, int], int, int, int]] = {
    "latent": ((1, 6, 5), 4, 1, 2),
    "pixel": ((3, 1, 1), 4, 2, 2),
    "image": ((1, 6, 5), 1, 2, 2),
    "sample": ((2, 3, 2), 4, 2, 1),
    "everything": ((1, 1, 1), 1, 1, 1),
}
PAIRS = [
    pair for pair in itertools.product(POSTERIORS | CODE_POSTERIORS, PRIORS | CODE_PRIORS) if not refusal(*pair, "none")
]
FEW = [
    *[("diagonal_normal", "standard_normal"), ("laplace", "diagonal_normal"), ("full_normal", "vamp")],
    *[("flow_spline", "flow_coupling"), ("categorical", "categorical"), ("vector_quantized", "uniform")],
    ("deterministic", "standard_normal"),
]
"""Pairs that every objective is tried with; those of objectives that take none of the others are here too."""


def made(name: str, units: int, samples: int) -> Objective:
    """An objective for so many units and samples."""
    if name == "factor":
        betas, options = [0.5, 0.9], {"hidden": [4], "discriminator_lr": 1e-3}
        return FactorVAE(gamma=10.0, latent_dim=units, discriminator_betas=betas, num_samples=samples, **options)
    options = {"groups": 1} if name in ("miwae", "piwae") else {}
    maker = OBJECTIVES[name]
    return maker(num_samples=samples, **options) if isinstance(maker, partial) else maker()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_every_size_of_one(name: str, size: str) -> None:
    shape, batch, units, samples = SIZES[size]
    for posterior, prior in FEW:
        if refusal(posterior, prior, name):
            continue
        model, objective = make_vae("mlp", posterior, prior, shape=shape, latent_dim=units), made(name, units, samples)
        x = images(count=batch, shape=shape)
        objective.check(model.eval().trace(x, objective.num_samples))
        if batch >= objective.least_batch:
            loss = objective(model.train().trace(x, objective.num_samples), 0)
            loss.total.backward()
            assert loss.total.isfinite() and loss.total.shape == (), (posterior, prior)
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            assert gradients and all(gradient.isfinite().all() for gradient in gradients), (posterior, prior)


@pytest.mark.parametrize("size", SIZES)
def test_every_pair_and_likelihood_takes_every_size_of_one(size: str) -> None:
    """Also in metrics, which libraries reduce."""
    shape, batch, units, samples = SIZES[size]
    for (posterior, prior), likelihood in zip(PAIRS, itertools.cycle(LIKELIHOODS), strict=False):
        model = make_vae("mlp", posterior, prior, likelihood, shape, units).eval()
        model.initialize(images(likelihood, 5, shape))
        with torch.no_grad():
            assert_shapes(model.trace(images(likelihood, batch, shape), samples), samples, batch)
            assert model.generate(1).sample().shape == (1, *shape), (posterior, prior, likelihood)


def assert_shapes(trace: Trace, samples: int, batch: int) -> None:
    (latent,) = trace.latents
    assert trace.log_px.shape == (samples, batch) and latent.z.shape[:2] == (samples, batch)
    metrics = standard_metrics(trace, "test/", dequantized_levels=None)
    metrics.update(trace)
    assert all(value.shape == () and value.isfinite() for value in metrics.compute().values())
    if KLPerUnit.applies(trace):
        kl = KLPerUnit(trace)
        kl.update(trace)
        assert kl.values().shape == (latent.q.event_shape[0],)
        torch.testing.assert_close(kl.values().sum(), trace.kl.mean())
    if MutualInformation.applies(trace):
        information = MutualInformation()
        information.update(trace)
        assert information.compute().shape == () and information.compute() <= math.log(batch) + 1e-5


def one_unit(count: int = 200) -> Trace:
    """Means of deviation 1/2 about 3, and a KL that is known."""
    q = DiagonalNormal(3 + 0.5 * torch.randn(count, 1), torch.full((count, 1), 0.3))
    latent = Latent(q, DiagonalNormal(torch.zeros(1), torch.ones(1)), q.rsample(torch.Size((2,))))
    return Trace(torch.zeros(count, 1, 1, 1), make_vae(shape=(1, 1, 1)).generate(1).expand((2, count)), (latent,))


def test_a_single_unit_has_the_values_of_its_definitions() -> None:
    """No total correlation, nothing off the diagonal, and a KL that is that of its level."""
    trace = one_unit()
    (latent,) = trace.latents
    mean, kl = latent.q.mean, latent.kl[0].mean()
    for estimator in ("weighted", "stratified"):
        options = {"alpha": 1.0, "beta": 6.0, "gamma": 1.0, "num_samples": 2}
        terms = prepared(BetaTC(estimator=estimator, **options))(trace, 0).terms  # type: ignore[arg-type]
        torch.testing.assert_close(terms["total_correlation"], torch.tensor(0.0), atol=1e-5, rtol=0)
    dip = DIP(beta=1.0, variant="ii", lambda_off_diagonal=10.0, lambda_diagonal=5.0, num_samples=2)(trace, 0).terms
    assert dip["off_diagonal"] == 0
    torch.testing.assert_close(dip["diagonal"], (mean.var(correction=0) + 0.3**2 - 1).square())
    for free in (0.1, 100.0):
        totals = [
            FreeBits(beta=1.0, free_bits=free, per=per, num_samples=2)(trace, 0).total for per in ("unit", "level")
        ]
        torch.testing.assert_close(*totals)
    units, active = KLPerUnit(trace), ActiveUnits(trace)
    for metric in (units, active):
        metric.update(trace)
    torch.testing.assert_close(units.values(), kl.reshape(1))
    torch.testing.assert_close(active.variances(), mean.var(0, correction=0))
    assert active.compute() == 1


MEASURES: dict[str, Measure] = {
    "active_units": evaluation.ActiveUnits(limit=None),
    "ais": evaluation.AIS(num_chains=1, num_temperatures=2, num_leapfrog_steps=1, limit=None, num_simulated=1),
    "collapse": evaluation.Collapse(limit=None, kl_threshold=0.01),
    "disentanglement": evaluation.Disentanglement(limit=None, num_bins=2, num_votes=100, examples_per_vote=2),
    "elbo": evaluation.ELBO(num_samples=1, limit=None),
    "gaps": evaluation.Gaps(num_steps=2, lr=0.02, gradient_samples=1, num_samples=1, limit=None),
    "information": evaluation.Information(num_samples=1, limit=None, flow_limit=200),
    "knn": evaluation.KNN(limit=None, train_limit=None, k=1),
    "neighbours": evaluation.Neighbours(num_generated=1, temperature=1.0, pixels="mean", limit=None),
    "nll": evaluation.NLL(num_samples=1, limit=None, log_weights=True),
    "nll_two": evaluation.NLL(num_samples=2, limit=None, log_weights=False),
    "nll_many": evaluation.NLL(num_samples=100, limit=None, log_weights=False),
    "probe": evaluation.Probe(limit=None, train_limit=None, l2=1.0, max_iter=50),
    "silhouette": evaluation.Silhouette(limit=None),
    "total_correlation": evaluation.TotalCorrelation(num_samples=1, limit=None),
}
JUDGED = [
    *itertools.product([("diagonal_normal", "standard_normal")], [1, 2, 12]),
    *itertools.product([("flow_spline", "flow_coupling"), ("categorical", "uniform")], [1, 3]),
]
NOT_FOR_ONE = {"disentanglement", "information", "knn", "probe", "silhouette", "total_correlation"}
"""Measures that compare images."""


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_takes_one_latent_one_image_and_one_sample(name: str) -> None:
    for (posterior, prior), count in JUDGED:
        for shape in ((1, 1, 1), (3, 4, 1)):
            model = make_vae("mlp", posterior, prior, shape=shape, latent_dim=1)
            with torch.no_grad():
                for parameter in model.posterior.parameters():
                    parameter.mul_(4)  # an active unit
            x, train = torch.rand(count, *shape), torch.rand(12, *shape)
            labels, factors = torch.arange(12) % 2, torch.stack([torch.arange(12) % 2, torch.arange(12) // 6], dim=1)
            options = {"labels": labels[:count], "train_labels": labels, "factors": factors[:count]}
            try:
                found = MEASURES[name](make_subject(model, x, train, **options))
            except NotApplicable as error:
                assert "\n" not in str(error)
                assert (count == 1 and name in NOT_FOR_ONE) or (posterior, prior) != JUDGED[0][0] or count < 12, error
                continue
            assert_whole(found, count)


def assert_whole(found: Findings, count: int) -> None:
    """Numbers that JSON has, a value for each image, and no comparison with a standard error that one image has not."""
    json.dumps(found.values, allow_nan=False)
    assert all(len(values) == count for values in found.per_image.values())
    if count == 1:
        assert not [key for key in found.values if key.endswith("_se") and key != "nll_sampling_se"]
        assert not [line for line in found.warnings if "standard error of 0.00" in line]
    assert not [line for line in found.warnings if "model.latent_dim=1 is enough" in line]


PICTURES: dict[str, Picture] = {
    "interpolation": pictures.Interpolation(rows=1, columns=2, path="spherical"),
    "manifold": pictures.Manifold(rows=1, columns=1, image=None, units=None),
    "posterior": pictures.Posterior(method="pca", codes="mean", limit=5000),
    "reconstructions": pictures.Reconstructions(rows=1, columns=1),
    "samples": pictures.Samples(rows=1, columns=1, temperature=1.0, pixels="sample"),
    "traversal": pictures.Traversal(rows=1, columns=2, image=0, units=None),
    "traversal_of_the_prior": pictures.Traversal(rows=None, columns=3, image=None, units=None),
}
REFUSALS = {
    "interpolation": "split=test: has one image; an interpolation needs two",
    "manifold": "run=tiny: has one latent, and a manifold needs two",
    "posterior": "run=tiny: has one latent, and this picture needs two",
}


@pytest.mark.parametrize("posterior", ["diagonal_normal", "categorical"])
@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_takes_one_latent_one_image_and_one_pixel_or_says_why_not(name: str, posterior: str) -> None:
    prior = "uniform" if posterior == "categorical" else "standard_normal"
    for shape in ((1, 1, 1), (3, 4, 1)):
        model = make_vae("mlp", posterior, prior, shape=shape, latent_dim=1).eval()
        split = TensorSplit(torch.rand(1, *shape), torch.zeros(1, dtype=torch.long))
        scene = Scene("tiny", model, torch.device("cpu"), "test", lambda split=split: (split, ("one",)), 1)
        try:
            with torch.no_grad():
                drawn = PICTURES[name](scene)
                first = next(drawn.frames()) if drawn.frames else drawn.still
        except ConfigError as error:
            assert str(error).startswith(REFUSALS[name]) or posterior == "categorical", error
            continue
        assert name not in REFUSALS and min(*drawn.still.size, *first.size) > 0


def test_a_codebook_of_which_one_entry_is_in_use_is_drawn_as_a_point() -> None:
    model = make_vae("mlp", "vector_quantized", "uniform", shape=(1, 1, 1)).eval()
    split = TensorSplit(torch.full((5, 1, 1, 1), 0.5), torch.zeros(5, dtype=torch.long))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        scene = Scene("tiny", model, torch.device("cpu"), "test", lambda: (split, ()), 5)
        points = PICTURES["posterior"](scene).arrays["points"]
        found = pca(torch.zeros(5, 3), torch.randn(9, 3), 0)
    assert points.isfinite().all() and torch.allclose(points, points[0], atol=1e-6)
    assert found.subtitle == "PCA, 0% of the variance explained"


@pytest.mark.parametrize("make", [Beta, Categorical, DiscretizedLogistic])
def test_one_level_and_one_class_are_refused_by_name(make: type) -> None:
    with pytest.raises(ConfigError, match="^levels=1: must be a whole number of at least 2$"):
        make((3,), (1, 2, 2), levels=1)
    with pytest.raises(ConfigError, match="^classes=1: must be a whole number of at least 2$"):
        CategoricalPosterior((3,), 1, classes=1, temperature=1.0, straight_through=False)


RUNS = {
    "latent": ["data=digits", "trainer=smoke"],
    "variable": ["data=digits", "trainer=smoke", "posterior=categorical", "prior=categorical", "callbacks=none"],
    "image": ["data=arrays", "data.batch_size=1", "data.validation_size=1", "callbacks=none"],
}


def test_runs_with_one_latent_and_one_image_train_evaluate_and_draw(tmp_path: Path) -> None:
    """The first with all pictures; the last tests, validates and takes one image at a time, of one class."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 2, 2), dtype=np.uint8)
    file = tmp_path / "images.npz"
    labels = {"train_labels": np.zeros(3, int), "test_labels": np.zeros(1, int)}
    np.savez(file, train_images=pixels[:3], test_images=pixels[3:], **labels)
    small = ["model=mlp_vae", "model.latent_dim=1", "trainer.max_epochs=1", "threads=1"]
    runs = {name: [*small, *parts, f"hydra.run.dir={tmp_path / name}"] for name, parts in RUNS.items()}
    runs["image"].append(f"data.path={file}")
    for name, done in train_all(runs, tmp_path).items():
        assert done.returncode == 0, (name, done.stderr)
        units, history = (
            list(csv.DictReader((tmp_path / name / file).read_text().splitlines()))
            for file in ("kl_per_unit.csv", "history.csv")
        )
        assert units[-1].keys() == {"epoch", "unit_0"}
        assert float(units[-1]["unit_0"]) == pytest.approx(float(history[-1]["val/kl"]), rel=1e-4, abs=1e-6)
    for name in ("latent", "image"):
        metrics = "metrics=[nll,elbo,active_units,collapse,information]"
        done = forked("scripts/evaluate.py", f"run={tmp_path / name}", "num_samples=2", "limit=20", metrics)
        assert done.returncode == 0, (name, done.stderr)
        done = forked("scripts/draw.py", "traversal", f"run={tmp_path / name}")
        assert done.returncode == 0, (name, done.stderr)
