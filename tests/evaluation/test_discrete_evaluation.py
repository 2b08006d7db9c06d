"""Runs with one-hot codes, from training to evaluation: defined measures are correct, the others are skipped."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.nn import functional

from nelbo.checkpoints.record import read_checkpoint
from nelbo.evaluation import NLL, UDR, Disentanglement, Information
from nelbo.evaluation.codes import codes_of
from nelbo.evaluation.collapse import remedies
from nelbo.evaluation.measure import NotApplicable
from nelbo.finished.replay import replay
from nelbo.models import VAE
from tests.helpers.bundles import make_bundle
from tests.helpers.diverging import infinite_loss
from tests.helpers.factors import SHAPE, images, make_vae
from tests.helpers.forks import forked, train_all
from tests.helpers.subjects import make_subject

CLASSES, COUNT = 4, 12
MEASURES = "nll,elbo,active_units,ais,gaps,information,collapse,knn,silhouette,disentanglement,neighbours"
QUICK = ["num_samples=20", "metrics.neighbours.num_generated=20", f"metrics=[{MEASURES}]"]
RUNS = {
    # Two variables, but not two coordinates of a plane.
    "categorical": ["model=mlp_vae", "model.latent_dim=2", "posterior=categorical", "prior=categorical"],
    "vq_vae": ["model=vq_vae"],
}
SKIPPED = {
    "categorical": ["active_units", "ais", "collapse", "disentanglement", "gaps"],
    "vq_vae": ["active_units", "ais", "collapse", "disentanglement", "gaps", "information", "nll"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("discrete")
    runs = {name: [*run, "data=digits", "trainer=smoke", f"hydra.run.dir={home / name}"] for name, run in RUNS.items()}
    done = train_all(runs, home)
    assert all(run.returncode == 0 for run in done.values()), done
    return home


@pytest.fixture(scope="module")
def categorical() -> VAE:
    """A model with 16 codes of very different probabilities."""
    torch.manual_seed(3)
    model = make_vae(posterior="categorical", prior="categorical", latent_dim=2).eval()
    with torch.no_grad():
        model.prior.logits.normal_()  # type: ignore[union-attr, operator]
        for parameter in model.posterior.parameters():
            parameter.mul_(6)
    return model


def all_codes() -> Tensor:
    """Return all codes of the categorical model, (16, 2, 4)."""
    numbers = torch.cartesian_prod(torch.arange(CLASSES), torch.arange(CLASSES))
    return functional.one_hot(numbers, CLASSES).float()


@torch.no_grad()
def test_log_likelihood_of_an_enumerated_model(categorical: VAE) -> None:
    x, samples = torch.rand(COUNT, *SHAPE), 4000
    z = all_codes()
    joint = categorical.log_joint(x, [z.unsqueeze(1).expand(-1, COUNT, -1, -1)]).double()
    log_q = categorical.encode(x).log_prob(z.unsqueeze(1)).double()  # type: ignore[no-untyped-call]
    exact = joint.logsumexp(0)
    # The relative variance of the mean of S weights, half of which is the bias of its logarithm.
    variance = ((2 * joint - log_q).logsumexp(0) - 2 * exact).exp().sub(1) / samples
    assert variance.max() < 0.05
    values = NLL(num_samples=samples, limit=None, log_weights=False)(make_subject(categorical, x)).values
    error = variance.sum().sqrt().item() / COUNT
    assert abs(values["nll"] + exact.mean().item() - variance.mean().item() / 2) < 4 * error  # type: ignore[operator]
    assert -categorical.trace(x).log_px.mean() > values["nll"] - 4 * error  # type: ignore[operator]


@torch.no_grad()
def test_information_of_enumerated_codes(categorical: VAE) -> None:
    x, samples = torch.rand(COUNT, *SHAPE), 1000
    log_q = categorical.encode(x).log_prob(all_codes().unsqueeze(1)).double()  # type: ignore[no-untyped-call]
    log_p = categorical.prior(categorical.encode).log_prob(all_codes()).double()
    log_aggregate = log_q.logsumexp(1) - math.log(COUNT)
    q = log_q.exp()

    def expected(values: Tensor) -> tuple[float, float]:
        """Return E over images and codes of values (16, N), and the standard error of `samples` codes per image."""
        means = (q * values).sum(0)
        variances = (q * values.square()).sum(0) - means.square()
        return means.mean().item(), (variances.sum() / samples).sqrt().item() / COUNT

    measure = Information(num_samples=samples, limit=None, flow_limit=10)
    results = measure(make_subject(categorical, x)).values
    for name, values in (
        ("mutual_information", log_q - log_aggregate.unsqueeze(1)),
        ("marginal_kl", (log_aggregate - log_p).unsqueeze(1).expand_as(log_q)),
    ):
        exact, error = expected(values)
        assert abs(results[name] - exact) < 4 * error < 0.2, name  # type: ignore[operator]
    rate = (q * (log_q - log_p.unsqueeze(1))).sum(0).mean().item()
    assert results["information_rate"] == pytest.approx(rate, rel=1e-5)


def test_features_of_codes_are_what_the_decoder_receives(categorical: VAE) -> None:
    x = torch.rand(COUNT, *SHAPE)
    shares = categorical.encode(x).mean.flatten(1)
    np.testing.assert_allclose(codes_of(make_subject(categorical, x), "codes"), shares.detach(), rtol=1e-5)
    model = make_vae("conv", "vector_quantized", "uniform").eval()
    quantized = model.encode(x).quantized  # type: ignore[attr-defined]
    np.testing.assert_allclose(codes_of(make_subject(model, x), "codes"), quantized.mT.flatten(1).detach())


@pytest.mark.parametrize("posterior", ["categorical", "vector_quantized"])
def test_scores_of_units_are_not_defined_for_classes(posterior: str) -> None:
    factors = torch.stack([torch.arange(COUNT) % 2, torch.arange(COUNT) % 3], dim=1)
    subject = make_subject(make_vae(posterior=posterior, prior="uniform"), torch.rand(COUNT, *SHAPE), factors=factors)
    with pytest.raises(NotApplicable, match="disentanglement: z are codes of classes"):
        Disentanglement(limit=None, num_bins=2, num_votes=100, examples_per_vote=2)(subject)
    with pytest.raises(NotApplicable, match="udr: subject: z are codes of classes"):
        UDR(limit=None)([subject, subject])


@pytest.mark.parametrize("name", RUNS)
def test_evaluation_of_a_run(home: Path, name: str) -> None:
    done = forked("scripts/evaluate.py", f"run={home / name}", *QUICK)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr
    skipped = [line.split()[2].rstrip(":") for line in done.stdout.splitlines() if line.startswith("left out")]
    assert sorted(skipped) == SKIPPED[name], done.stdout
    values = json.loads((home / name / "evaluation.json").read_text())
    metrics = json.loads((home / name / "metrics.json").read_text())
    assert {"test/nelbo", "test/rate", "test/knn_accuracy", "test/silhouette", "test/copies"} <= values.keys()
    assert ("test/nll" in values and "test/mutual_information" in values) == (name == "categorical")
    assert values["test/rate"] == pytest.approx(metrics["test/kl"], rel=1e-4)
    if name == "vq_vae":  # without any random numbers
        assert values["test/nelbo"] == pytest.approx(metrics["test/nelbo"], rel=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_training_reports_what_is_defined(home: Path, name: str) -> None:
    events = EventAccumulator(str(home / name / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    pictures = {tag.split()[0] for tag in events.Tags()["images"]}
    drawn = {"pictures/reconstructions", "pictures/samples", "pictures/traversals"}  # and no manifold
    assert pictures - {"evaluation/test/neighbours", "pictures/kl_per_unit"} == drawn
    shown = {*events.Tags()["scalars"], *json.loads((home / name / "metrics.json").read_text())}
    assert not [tag for tag in shown if "active_units" in tag] and "test/code_perplexity" in shown
    units = home / name / "kl_per_unit.csv"
    assert units.exists() == (name == "categorical")  # the KL of a codebook has no closed form
    if units.exists():
        (row,) = csv.reader(units.read_text().splitlines()[1:])
        (history,) = csv.DictReader((home / name / "history.csv").read_text().splitlines())
        assert len(row) == 1 + 2 and sum(map(float, row[1:])) == pytest.approx(float(history["val/kl"]), rel=1e-3)
    assert {file.name for file in (home / name / "pictures").iterdir()} >= {"samples.png", "reconstructions.png"}


def test_the_projector_does_not_change_the_codebook(home: Path) -> None:
    """Its codes are entries of the last checkpoint's codebook, which an encoder in training mode would have updated."""
    (file,) = (home / "vq_vae" / "tensorboard").glob("**/tensors.tsv")
    codes = torch.tensor(np.loadtxt(file)).float()
    state = read_checkpoint(home / "vq_vae" / "checkpoints" / "last.ckpt")["state_dict"]
    (codebook,) = (value for name, value in state.items() if name.endswith("_codebook.embed"))
    vectors = codes.reshape(len(codes), codebook.shape[-1], -1).mT
    distances = torch.cdist(vectors, codebook[0], compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
    assert distances.max() < 1e-6


def test_a_picture_that_is_not_defined_is_an_error_of_one_line(home: Path) -> None:
    done = forked("scripts/draw.py", "manifold", f"run={home / 'categorical'}")
    assert done.returncode == 2 and done.stderr.startswith("error: run=categorical: has codes of classes, and ")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "overrides",
    [
        ("posterior=categorical", "prior=categorical"),
        ("posterior=vector_quantized", "prior=uniform", "objective=vq_vae"),
        ("objective=factor",),
    ],
    ids=["categorical", "vector_quantized", "factor"],
)
def test_a_failed_step_is_reproduced_bit_for_bit(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """With noise of classes, with a codebook that is updated, and with an objective that has parameters."""
    done = replay(make_bundle(tmp_path, infinite_loss, *overrides))
    assert done.is_reproduced and done.is_exact and not done.differences
    assert any(math.isfinite(value) for name, value in done.recorded.terms.items() if name == "kl")


def test_remedies_for_collapse_are_options_that_the_objective_has() -> None:
    iwae, free_bits = (
        remedies(make_subject(make_vae(), images(), config={"objective": objective}))
        for objective in (
            {"_target_": "nelbo.objectives.IWAE"},
            {"_target_": "nelbo.objectives.FreeBits", "beta": 1.0},
        )
    )
    assert "objective.beta" not in iwae and "objective=free_bits" in iwae
    assert "a lower objective.beta than 1" in free_bits and "objective=free_bits" not in free_bits
    nested = {"model": {"nesting": {"_target_": "nelbo.models.Nesting"}}}
    for config, priors in (({}, "prior=vamp or prior=flow"), (nested, "prior=vamp")):
        subject = make_subject(make_vae(), images(), config=config)
        assert remedies(subject).endswith(f"; {priors}"), "a flow has no part for the first units"
