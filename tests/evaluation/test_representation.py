"""Classifiers of codes with known classes, against exact accuracies."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.evaluation import KNN, Probe, Silhouette
from nelbo.evaluation.codes import codes_of, fit
from nelbo.evaluation.measure import Findings, NotApplicable, Subject
from tests.helpers.codes import as_images, coded
from tests.helpers.factors import images, make_vae
from tests.helpers.subjects import make_subject

SETTINGS: dict[str, Any] = {"limit": None, "train_limit": None}


def probe(subject: Subject, **settings: Any) -> Findings:
    return Probe(**{**SETTINGS, "l2": 1.0, "max_iter": 100} | settings)(subject)


def knn(subject: Subject, **settings: Any) -> Findings:
    return KNN(**{**SETTINGS, "k": 3} | settings)(subject)


def gaussians(count: int, distance: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return x ~ N((+-distance, 0), I), with the sign of the label, multiplied by `scale`, and the labels."""
    labels = torch.arange(count) % 2
    centre = torch.stack([distance * (2.0 * labels - 1), torch.zeros(count)], dim=1)
    return scale * (centre + torch.randn(count, 2)), labels


def labelled(test: tuple[Tensor, Tensor], train: tuple[Tensor, Tensor], scale: float = 0.1, **rest: Any) -> Subject:
    """Return a subject whose codes are its pixels."""
    model = coded(test[0].shape[1], lambda x: x, scale)
    return make_subject(model, as_images(test[0]), as_images(train[0]), labels=test[1], train_labels=train[1], **rest)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_a_probe_reaches_the_best_accuracy_of_two_gaussians_at_any_scale(scale: float) -> None:
    """It is Phi(1) for means that are two standard deviations apart."""
    subject = labelled(gaussians(4000, 1, scale), gaussians(4000, 1, scale))
    findings = probe(subject)
    best = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    error = findings.values["probe_accuracy_se"]
    assert isinstance(error, float) and error == pytest.approx(math.sqrt(best * (1 - best) / 4000), rel=0.05)
    assert findings.values["probe_accuracy"] == pytest.approx(best, abs=4 * error)
    assert findings.values["probe_chance"] == 0.5 and findings.values["probe_train_images"] == 4000
    assert not findings.warnings
    correct = findings.per_image["probe_accuracy"]
    assert set(correct.tolist()) == {0.0, 1.0} and correct.mean().item() == findings.values["probe_accuracy"]


def test_codes_that_do_not_depend_on_labels_are_at_chance() -> None:
    subject = labelled(gaussians(2000, 0), gaussians(2000, 0))
    for accuracy in (probe(subject).values["probe_accuracy"], knn(subject).values["knn_accuracy"]):
        assert accuracy == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))


def test_chance_is_the_share_of_the_largest_class() -> None:
    codes = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    subject = labelled((codes, torch.tensor([0, 0, 0, 1])), (codes, torch.tensor([0, 0, 0, 1])))
    assert probe(subject).values["probe_chance"] == knn(subject).values["knn_chance"] == 0.75


def test_nearest_neighbours_by_hand() -> None:
    """Three of 4 images have at least two neighbours of their class; the one at 5 has 2, 3 and 9, so it is wrong."""
    train = torch.tensor([[0.0], [2.0], [3.0], [9.0], [10.0], [11.0]]), torch.tensor([0, 0, 0, 1, 1, 1])
    test = torch.tensor([[1.0], [5.0], [8.0], [12.0]]), torch.tensor([0, 1, 1, 1])
    findings = knn(labelled(test, train))
    assert findings.per_image["knn_accuracy"].tolist() == [1, 0, 1, 1] and findings.values["knn_accuracy"] == 0.75
    assert findings.recipe == {"knn_k": 3, "knn_train_images": 6}
    with pytest.raises(NotApplicable, match="k=7 is more than the 6 training images; use metrics.knn.k=6"):
        knn(labelled(test, train), k=7)


def test_silhouette_by_hand() -> None:
    """Rousseeuw 1987: the silhouette is 1 - a / b; for the code 0, a = 1 and b = 10.5."""
    codes = torch.tensor([[0.0], [10.0], [1.0], [11.0]])
    subject = labelled((codes, torch.tensor([4, 7, 4, 7])), (codes, torch.tensor([4, 7, 4, 7])))
    findings = Silhouette(limit=None)(subject)
    outer, inner = 1 - 1 / 10.5, 1 - 1 / 9.5
    assert findings.per_image["silhouette"].tolist() == pytest.approx([outer, inner, inner, outer])
    assert findings.values == {"silhouette": pytest.approx((outer + inner) / 2), "silhouette_images": 4}


def test_limits() -> None:
    subject = labelled(gaussians(60, 5), gaussians(90, 5))
    findings = probe(subject, limit=40, train_limit=50)
    assert len(findings.per_image["probe_accuracy"]) == 40 and findings.values["probe_train_images"] == 50
    assert Silhouette(limit=20)(subject).values["silhouette_images"] == 20


@pytest.mark.parametrize("posterior", ["deterministic", "flow_spline", "full_normal"])
def test_every_posterior_has_codes(posterior: str) -> None:
    x, labels = images(count=40), torch.arange(40) % 2
    x[labels == 1] += 5
    subject = make_subject(make_vae(posterior=posterior), x, labels=labels, train_labels=labels)
    least = 0.95 if posterior == "flow_spline" else 1  # 38 of 40: codes of flows are averages of samples
    assert min(probe(subject).values["probe_accuracy"], knn(subject).values["knn_accuracy"]) >= least
    assert Silhouette(limit=None)(subject).values["silhouette"] > 0.3  # type: ignore[operator]


def test_codes_are_means_in_float64() -> None:
    values = torch.randn(7, 2)
    subject = make_subject(coded(2, lambda x: 2 * x, scale=3.0), as_images(values), batch_size=3)
    codes = codes_of(subject, "codes")
    assert codes.dtype == np.float64 and np.allclose(codes, 2 * values.numpy(), rtol=1e-6)


def test_a_probe_that_did_not_converge_gives_a_warning() -> None:
    subject = labelled(gaussians(200, 1), gaussians(200, 1))
    (warning,) = probe(subject, max_iter=1).warnings
    assert warning.startswith("probe: ") and "converge" in warning and "max_iter" in warning and "\n" not in warning


def test_other_warnings_of_a_fit_are_passed_on() -> None:
    class Loud:
        def fit(self, features: object, labels: object) -> None:
            warnings.warn("overflow", RuntimeWarning, stacklevel=1)

    with pytest.warns(RuntimeWarning, match="overflow"):
        assert fit(Loud(), np.zeros((2, 1)), np.zeros(2, dtype=np.int64)) == []


def test_a_probe_tested_on_training_images_gives_a_warning() -> None:
    subject = replace(labelled(gaussians(60, 5), gaussians(60, 5)), split="train")
    assert "fitted" in probe(subject).warnings[0] and "fitted" in knn(subject).warnings[0]


def test_labels_for_which_classifiers_are_not_defined() -> None:
    x, labels = gaussians(20, 1)
    for subject, reason in (
        (make_subject(coded(2, lambda x: x), as_images(x)), "20 of 20 images of split t.* no label"),
        (labelled((x, torch.where(labels == 0, -1, 1)), (x, labels)), "10 of 20 images of split test"),
        (labelled((x, torch.ones_like(labels)), (x, labels)), "fewer than two classes"),
    ):
        for measure in (probe, knn, lambda subject: Silhouette(limit=None)(subject)):
            with pytest.raises(NotApplicable, match=reason):
                measure(subject)
    with pytest.raises(NotApplicable, match="no two of 20 images have the same label"):
        Silhouette(limit=None)(labelled((x, torch.arange(20)), (x, labels)))


def test_invalid_options() -> None:
    for key, value in (("limit", 0), ("train_limit", 1.5), ("l2", 0), ("max_iter", 0)):
        with pytest.raises(ConfigError, match=f"{key}={value}"):
            Probe(**{**SETTINGS, "l2": 1.0, "max_iter": 100, key: value})
    with pytest.raises(ConfigError, match="k=0"):
        KNN(**SETTINGS, k=0)
    with pytest.raises(ConfigError, match="limit=-1"):
        Silhouette(limit=-1)
