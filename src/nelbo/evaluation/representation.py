"""How much codes tell about labels, which the model has never seen: classifiers and the silhouette.

Shapes: N images, D latent dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nelbo.distributions import code_of
from nelbo.errors import at_most, number, positive_integer
from nelbo.evaluation.codes import Floats, Integers, codes_of, fit, linear_classifier
from nelbo.evaluation.measure import TRIAL, Findings, Measure, NotApplicable, Subject
from nelbo.views.images import evenly_spaced


class Probe(Measure):
    """Accuracy of a linear classifier of the labels: multinomial logistic regression on standardised codes E_q[z|x].

    The classifier is fitted to images of the training split. `probe_chance` is the share of the largest class among the
    tested images: the best accuracy of a constant prediction.

    Args:
        limit: largest number of tested images; None for all.
        train_limit: largest number of images to fit to; None for all.
        l2: weight of |w|^2 / 2, relative to the cross-entropy summed over images.
        max_iter: largest number of L-BFGS steps.
    """

    top_level_only = True

    def __init__(self, *, limit: int | None, train_limit: int | None, l2: float, max_iter: int) -> None:
        self.limit = at_most("limit", limit)
        self.train_limit = at_most("train_limit", train_limit)
        self.l2 = number("l2", l2, positive=True)
        self.max_iter = positive_integer("max_iter", max_iter)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if some images have no label, or all have the same.
        """
        classifier = linear_classifier(l2=self.l2, max_iter=self.max_iter)
        findings = classified(subject, "probe", classifier, self.limit, self.train_limit)
        findings.recipe["probe_l2"] = self.l2
        return findings


class Accuracy(Measure):
    """Accuracy of the labels that a model with conditioning=semi_supervised infers: the most probable class of q(y|x).

    Images without a label are left out.

    Args:
        limit: largest number of images; None for all.
    """

    def __init__(self, *, limit: int | None) -> None:
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the model infers no label, or no image has one.
        """
        if subject.example.label is None:
            raise NotApplicable("accuracy: the model infers no label; metrics=[probe] classifies its codes")
        if subject.example.label.known.any():
            raise NotApplicable(f"accuracy: the {subject.example.label.name} is given; leave at.NAME=... out")

        @torch.no_grad()
        def infer(x: Tensor) -> dict[str, Tensor]:
            return {"inferred": code_of(subject.model.encode(x)).squeeze(-2).argmax(-1)}

        inferred = subject.map("accuracy", infer, limit=self.limit)["inferred"]
        name, positions = subject.example.label.name, evenly_spaced(len(subject.images), self.limit)
        truth = subject.images.context(positions, [name]).get(name, torch.full_like(inferred, -1))
        if not (truth >= 0).any():
            raise NotApplicable(f"accuracy: no image of split {subject.split} has a {name}")
        findings = Findings()
        findings.add_mean("accuracy", (inferred == truth)[truth >= 0].double())
        findings.values["accuracy_images"] = int((truth >= 0).sum())
        return findings


class KNN(Measure):
    """Accuracy of the majority label of the k nearest training images, by Euclidean distance of codes E_q[z|x].

    Codes are not standardised: the mean of a collapsed unit is nearly constant, and its small variations would count
    as much as those of a unit that the model uses. `knn_chance` is defined as `probe_chance` of `Probe`.

    Args:
        limit: largest number of tested images; None for all.
        train_limit: largest number of images among which neighbours are searched; None for all.
        k: number of neighbours.
    """

    top_level_only = True

    def __init__(self, *, limit: int | None, train_limit: int | None, k: int) -> None:
        self.limit = at_most("limit", limit)
        self.train_limit = at_most("train_limit", train_limit)
        self.k = positive_integer("k", k)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if some images have no label, all have the same, or there are fewer than k training images.
        """
        from sklearn.neighbors import KNeighborsClassifier

        if self.k > (count := len(evenly_spaced(len(subject.splits["train"]), self.train_limit))):
            raise NotApplicable(f"knn: k={self.k} is more than the {count} training images; use metrics.knn.k={count}")
        findings = classified(subject, "knn", KNeighborsClassifier(self.k), self.limit, self.train_limit)
        findings.recipe["knn_k"] = self.k
        return findings


class Silhouette(Measure):
    """How compact and how separate the codes E_q[z|x] of the classes are, in [-1, 1] (Rousseeuw 1987).

    Args:
        limit: largest number of images; None for all. The duration is quadratic in the number of images.
    """

    top_level_only = True

    def __init__(self, *, limit: int | None) -> None:
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if some images have no label, all have the same, or each has a different one.
        """
        from sklearn.metrics import silhouette_samples

        labels = labels_of(subject, "silhouette", subject.split, self.limit)
        if len(np.unique(labels)) == len(labels):
            raise NotApplicable(f"silhouette: no two of {len(labels)} images have the same label; raise limit")
        codes = codes_of(subject, "silhouette", limit=self.limit)
        part = codes[evenly_spaced(len(codes), TRIAL).numpy()]
        pairs = (len(codes) / len(part)) ** 2
        subject.estimate_duration("silhouette", pairs, lambda: silhouette_samples(part, np.arange(len(part)) % 2))
        values = torch.from_numpy(silhouette_samples(codes, labels))
        return Findings(
            values={"silhouette": values.mean().item(), "silhouette_images": len(values)},
            per_image={"silhouette": values},
            recipe={"silhouette_images": len(values)},
        )


def classified(subject: Subject, name: str, classifier: Any, limit: int | None, train_limit: int | None) -> Findings:
    """Measure the accuracy of a scikit-learn classifier that is fitted to codes of the training split.

    Args:
        subject: the model and its data.
        name: prefix of the values.
        classifier: not fitted yet.
        limit: largest number of tested images; None for all.
        train_limit: largest number of images to fit to; None for all.

    Raises:
        NotApplicable: if some images have no label, or all have the same.
    """
    from sklearn.base import clone

    train_labels = labels_of(subject, name, "train", train_limit)
    labels = labels_of(subject, name, subject.split, limit)
    train_codes = codes_of(subject, f"{name}, training images", split="train", limit=train_limit)
    codes = codes_of(subject, name, limit=limit)
    part = evenly_spaced(len(train_codes), TRIAL).numpy()
    if len(np.unique(train_labels[part])) > 1:
        trial = clone(classifier)
        times = len(train_codes) / len(part)
        subject.estimate_duration(f"{name}, fit", times, lambda: fit(trial, train_codes[part], train_labels[part]))
    messages = fit(classifier, train_codes, train_labels)
    few = codes[evenly_spaced(len(codes), TRIAL).numpy()]
    subject.estimate_duration(f"{name}, tested images", len(codes) / len(few), lambda: _predict(classifier, few))
    findings = Findings(warnings=[f"{name}: {line}; raise metrics.{name}.max_iter" for line in messages])
    if subject.split == "train":
        findings.warnings.append(f"{name}: tested on images that it may have been fitted to; use split=test")
    findings.add_mean(f"{name}_accuracy", torch.from_numpy(_predict(classifier, codes) == labels).double())
    findings.values[f"{name}_chance"] = float(np.bincount(labels).max() / len(labels))
    findings.values[f"{name}_train_images"] = findings.recipe[f"{name}_train_images"] = len(train_labels)
    return findings


def labels_of(subject: Subject, name: str, split: str, limit: int | None) -> Integers:
    """Return the labels (N,) of the images that `Subject.map` selects from a split.

    Raises:
        NotApplicable: if some images have no label, or all have the same.
    """
    images = subject.splits[split]
    labels: Integers = images.labels[evenly_spaced(len(images), limit)].cpu().numpy()
    if missing := int((labels < 0).sum()):
        raise NotApplicable(
            f"{name}: {missing} of {len(labels)} images of split {split} have no label; all must have one"
        )
    if len(np.unique(labels)) < 2:
        raise NotApplicable(f"{name}: the {len(labels)} images of split {split} are of fewer than two classes")
    return labels


def _predict(classifier: Any, codes: Floats) -> Integers:
    predicted: Integers = classifier.predict(codes)
    return predicted
