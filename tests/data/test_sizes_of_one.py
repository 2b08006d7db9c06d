"""Sizes of 1: latents, categorical variables, pixels, channels, images, batch, samples, classes.

Libraries drop or broadcast dimensions of size 1 silently, and sweeps often begin with them.
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

# Shape of the images, batch size, number of latent dimensions or variables, number of samples.
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
"""Pairs of posterior and prior that every objective is tested with; each objective accepts at least one of them."""


def make_objective(name: str, units: int, samples: int) -> Objective:
    """Return an objective for this number of latent units and samples."""
    if name == "factor":
        betas, options = [0.5, 0.9], {"hidden": [4], "discriminator_lr": 1e-3}
        return FactorVAE(gamma=10.0, latent_dim=units, discriminator_betas=betas, num_samples=samples, **options)
    options = {"groups": 1} if name in ("miwae", "piwae") else {}
    constructor = OBJECTIVES[name]
    return constructor(num_samples=samples, **options) if isinstance(constructor, partial) else constructor()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_accepts_sizes_of_1(name: str, size: str) -> None:
    shape, batch, units, samples = SIZES[size]
    for posterior, prior in FEW:
        if refusal(posterior, prior, name):
            continue
        model = make_vae("mlp", posterior, prior, shape=shape, latent_dim=units)
        objective = make_objective(name, units, samples)
        x = images(count=batch, shape=shape)
        objective.check(model.eval().trace(x, objective.num_samples))
        if batch >= objective.least_batch:
            loss = objective(model.train().trace(x, objective.num_samples), 0)
            loss.total.backward()
            assert loss.total.isfinite() and loss.total.shape == (), (posterior, prior)
            gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
            assert gradients and all(gradient.isfinite().all() for gradient in gradients), (posterior, prior)


@pytest.mark.parametrize("size", SIZES)
def test_every_pair_of_posterior_and_prior_and_every_likelihood_accepts_sizes_of_1(size: str) -> None:
    """Their metrics, which torchmetrics reduces, keep their shapes too."""
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
    """Return a trace with one latent unit: q has means with standard deviation 1/2 about 3, and scale 0.3."""
    q = DiagonalNormal(3 + 0.5 * torch.randn(count, 1), torch.full((count, 1), 0.3))
    latent = Latent(q, DiagonalNormal(torch.zeros(1), torch.ones(1)), q.rsample(torch.Size((2,))))
    return Trace(torch.zeros(count, 1, 1, 1), make_vae(shape=(1, 1, 1)).generate(1).expand((2, count)), (latent,))


def test_terms_and_metrics_of_a_single_unit_have_their_exact_values() -> None:
    """The total correlation and off-diagonal terms are 0, and the KL of the unit is that of its level."""
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
MODELS = [
    *itertools.product([("diagonal_normal", "standard_normal")], [1, 2, 12]),
    *itertools.product([("flow_spline", "flow_coupling"), ("categorical", "uniform")], [1, 3]),
]
COMPARE_IMAGES = {"disentanglement", "information", "knn", "probe", "silhouette", "total_correlation"}
"""Measures that compare images, and need several."""


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_accepts_one_latent_one_image_and_one_sample(name: str) -> None:
    for (posterior, prior), count in MODELS:
        for shape in ((1, 1, 1), (3, 4, 1)):
            model = make_vae("mlp", posterior, prior, shape=shape, latent_dim=1)
            with torch.no_grad():
                for parameter in model.posterior.parameters():
                    parameter.mul_(4)  # makes the unit active
            x, train = torch.rand(count, *shape), torch.rand(12, *shape)
            labels, factors = torch.arange(12) % 2, torch.stack([torch.arange(12) % 2, torch.arange(12) // 6], dim=1)
            options = {"labels": labels[:count], "train_labels": labels, "factors": factors[:count]}
            try:
                findings = MEASURES[name](make_subject(model, x, train, **options))
            except NotApplicable as error:
                assert "\n" not in str(error)
                needs_more = count == 1 and name in COMPARE_IMAGES
                assert needs_more or (posterior, prior) != MODELS[0][0] or count < 12, error
                continue
            assert_valid(findings, count)


def assert_valid(findings: Findings, count: int) -> None:
    """Check that values are finite, that there is one per image, and that one image has no standard error."""
    json.dumps(findings.values, allow_nan=False)
    assert all(len(values) == count for values in findings.per_image.values())
    if count == 1:
        assert not [key for key in findings.values if key.endswith("_se") and key != "nll_sampling_se"]
        assert not [line for line in findings.warnings if "standard error of 0.00" in line]
    assert not [line for line in findings.warnings if "model.latent_dim=1 is enough" in line]


PICTURES: dict[str, Picture] = {
    "interpolation": pictures.Interpolation(rows=1, columns=2, path="spherical", levels="all"),
    "manifold": pictures.Manifold(rows=1, columns=1, image=None, units=None),
    "posterior": pictures.Posterior(method="pca", codes="mean", limit=5000),
    "reconstructions": pictures.Reconstructions(rows=1, columns=1),
    "samples": pictures.Samples(rows=1, columns=1, temperature=1.0, pixels="sample"),
    "traversal": pictures.Traversal(rows=1, columns=2, image=0, units=None, level=1),
    "traversal_of_the_prior": pictures.Traversal(rows=None, columns=3, image=None, units=None, level=1),
}
REFUSALS = {
    "interpolation": "split=test: has one image; an interpolation needs two",
    "manifold": "run=tiny: has one latent, and a manifold needs two",
    "posterior": "run=tiny: has one latent, and this picture needs two",
}


@pytest.mark.parametrize("posterior", ["diagonal_normal", "categorical"])
@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_accepts_one_latent_one_image_and_one_pixel_or_refuses_them(name: str, posterior: str) -> None:
    prior = "uniform" if posterior == "categorical" else "standard_normal"
    for shape in ((1, 1, 1), (3, 4, 1)):
        model = make_vae("mlp", posterior, prior, shape=shape, latent_dim=1).eval()
        split = TensorSplit(torch.rand(1, *shape), torch.zeros(1, dtype=torch.long))
        scene = Scene("tiny", model, torch.device("cpu"), "test", lambda split=split: (split, ("one",)), 1)
        try:
            with torch.no_grad():
                drawing = PICTURES[name](scene)
                first = next(drawing.frames()) if drawing.frames else drawing.still
        except ConfigError as error:
            assert str(error).startswith(REFUSALS[name]) or posterior == "categorical", error
            continue
        assert name not in REFUSALS and min(*drawing.still.size, *first.size) > 0


def test_codes_that_all_use_the_same_entry_are_drawn_as_one_point() -> None:
    model = make_vae("mlp", "vector_quantized", "uniform", shape=(1, 1, 1)).eval()
    split = TensorSplit(torch.full((5, 1, 1, 1), 0.5), torch.zeros(5, dtype=torch.long))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        scene = Scene("tiny", model, torch.device("cpu"), "test", lambda: (split, ()), 5)
        points = PICTURES["posterior"](scene).arrays["points"]
        projection = pca(torch.zeros(5, 3), torch.randn(9, 3), 0)
    assert points.isfinite().all() and torch.allclose(points, points[0], atol=1e-6)
    assert projection.subtitle == "PCA, 0% of the variance explained"


@pytest.mark.parametrize("make", [Beta, Categorical, DiscretizedLogistic])
def test_a_single_level_or_class_is_refused(make: type) -> None:
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
    """The first run draws all pictures; the last has one image per batch, for validation and for testing."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 1, 2, 2), dtype=np.uint8)
    file = tmp_path / "images.npz"
    labels = {"train_labels": np.zeros(3, int), "test_labels": np.zeros(1, int)}
    np.savez(file, train_images=pixels[:3], test_images=pixels[3:], **labels)
    small = ["model=mlp_vae", "model.latent_dim=1", "trainer.max_epochs=1", "threads=1"]
    runs = {name: [*small, *overrides, f"hydra.run.dir={tmp_path / name}"] for name, overrides in RUNS.items()}
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
