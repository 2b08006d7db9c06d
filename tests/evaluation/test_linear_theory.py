"""The linear theory of a run: spectra streamed from its images, and what its config and model must be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nelbo.evaluation import Collapse
from nelbo.evaluation.linear_theory import covariance, leading_spectrum, linear_theory, training_directions
from nelbo.evaluation.measure import NotApplicable, Subject
from nelbo.evaluation.processes import Processes
from nelbo.theory.spectrum import units_worth_it
from tests.helpers.components import NOISE, images_with_components
from tests.helpers.factors import LIKELIHOODS, images, make_vae
from tests.helpers.subjects import TensorSplit, make_subject


def with_components(pixels: int, train: int, held_out: int, variances: Tensor, **rest: Any) -> Subject:
    """Return a linear model with training images and validation images of a few Gaussian components."""
    parts = images_with_components(pixels, train, held_out, variances)
    train_split, val_split = (TensorSplit(x, torch.full((len(x),), -1)) for x in parts)
    model = make_vae("linear", likelihood="gaussian_fixed", shape=(1, 1, pixels), latent_dim=64)
    return Subject("subject", model.eval(), {"train": train_split, "val": val_split, "test": val_split}, **rest)


def test_sampling_noise_of_more_pixels_than_images_is_not_counted_as_units() -> None:
    """Ten components, 3,000 pixels, 2,000 images: 614 eigenvalues of the sample are above twice the noise."""
    beta = 2 * NOISE / 0.3**2  # sigma is 0.3
    subject = with_components(3000, 2000, 500, torch.linspace(40, 10, 10), config={"objective": {"beta": beta}})
    findings = Collapse(limit=100, kl_threshold=0.01)(subject)
    assert findings.values["collapse_water_level"] == pytest.approx(2 * NOISE)
    assert findings.values["collapse_predicted_units"] == 10
    assert any("64 units have an eigenvalue" in line and "only 10 of them" in line for line in findings.warnings)
    spectrum = leading_spectrum(subject, 64)
    assert int((spectrum.values > 2 * NOISE).sum()) == len(spectrum.values) == 138 and not spectrum.is_whole
    assert [units_worth_it(spectrum, factor * NOISE) for factor in (0.95, 1, 4)] == [10] * 3


def test_the_spectrum_of_few_pixels_is_whole() -> None:
    spectrum = leading_spectrum(with_components(400, 500, 100, torch.linspace(40, 10, 10)), 64)
    assert spectrum.is_whole and spectrum.values.shape == (400,) and spectrum.energies.shape == (100, 400)


@pytest.mark.parametrize("train", [40, 2500])
def test_directions_are_those_of_all_training_images(train: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact directions, streamed in blocks; approximate ones, whose eigenvalues are never above the exact ones."""
    subject = with_components(50, train, 10, torch.tensor([300.0, 100.0, 30.0]))
    x = subject.splits["train"][torch.arange(train)].flatten(1).double()
    centred = x - x.mean(dim=0)
    exact = torch.linalg.eigvalsh(centred.T @ centred / train).flip(0).clamp(min=0)
    mean, values, vectors = training_directions(subject, 12, "")
    torch.testing.assert_close(mean, x.mean(dim=0))
    torch.testing.assert_close(values, exact)
    torch.testing.assert_close((centred @ vectors).square().mean(dim=0), exact)
    monkeypatch.setattr("nelbo.evaluation.linear_theory.MOST_PIXELS", 10)
    _, leading, vectors = training_directions(subject, 12, "")
    assert leading.shape == (12,) and vectors.shape == (50, 12) and bool((leading <= exact[:12] * (1 + 1e-9)).all())
    torch.testing.assert_close(leading[:3], exact[:3], rtol=1e-6, atol=0)


def test_processes_share_the_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = with_components(6, 2500, 10, torch.tensor([3.0]))
    alone = covariance(subject, None, "")
    shares: list[Tensor] = []
    monkeypatch.setattr(Processes, "join", lambda self, mine, total: shares.append(mine[0]) or mine)
    for rank in range(2):
        covariance(Subject("subject", subject.model, subject.splits, processes=Processes(rank, 2)), None, "")
    shift, product = (sum(shares[start::2]) / 2500 for start in (0, 1))
    torch.testing.assert_close(product - torch.outer(shift, shift), alone[1])


def test_too_few_images_for_a_spectrum_have_no_theory() -> None:
    subject = make_subject(make_vae(), images(count=49), config={"objective": {"beta": 1}})
    reason = "it needs at least 50 training images and 50 held-out images, and there are 49"
    with pytest.raises(NotApplicable, match=reason), torch.no_grad():
        linear_theory(subject)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_theory_needs_one_sigma(likelihood: str) -> None:
    shape = (2, 6, 5)
    model = make_vae(likelihood=likelihood, shape=shape)
    subject = make_subject(model, images(likelihood, 60, shape), config={"objective": {"beta": 3}})
    with torch.no_grad():
        if likelihood not in {"gaussian", "gaussian_fixed", "gaussian_scheduled", "gaussian_optimal"}:
            with pytest.raises(NotApplicable, match="one sigma"):
                linear_theory(subject)
        else:
            variance = model.decode(torch.zeros(1, model.latent_dim)).variance
            assert linear_theory(subject).level == pytest.approx(3 * variance.mean().item(), rel=1e-5)


def test_without_a_beta_there_is_no_water_level() -> None:
    for config, reason in (({}, "water level is unknown"), ({"objective": {"beta": 0}}, "the KL has no weight")):
        with pytest.raises(NotApplicable, match=reason), torch.no_grad():
            linear_theory(make_subject(make_vae(), images(), config=config))


def test_the_theory_is_that_of_the_elbo() -> None:
    config = {"objective": {"_target_": "nelbo.objectives.NegativeELBO", "beta": 2.0}}
    assert linear_theory(make_subject(make_vae(), images(count=60), config=config)).level > 0
    config["objective"]["_target_"] = "nelbo.objectives.FreeBits"
    with pytest.raises(NotApplicable, match="it needs objective=elbo, and the run has nelbo.objectives.FreeBits"):
        linear_theory(make_subject(make_vae(), images(count=60), config=config))
