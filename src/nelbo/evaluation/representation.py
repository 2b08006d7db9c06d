"""What the codes know of the labels, which the model has never seen.

Shapes: N images, D latent dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nelbo.errors import at_most, number, positive_integer
from nelbo.evaluation.codes import Floats, Integers, codes_of, fit, linear_classifier
from nelbo.evaluation.measure import TRIAL, Findings, Measure, NoMeaning, Subject, spread


class Probe(Measure):
    """Accuracy of a linear classifier of the labels: multinomial logistic regression on standardised codes E_q[z|x].

    It is fitted to images of the training split. `probe_chance` is the share of the largest class among the images that
    are judged: the most that an answer without a look at them gets.

    Args:
        limit: no more than so many images are judged; None for all.
        train_limit: the classifier is fitted to no more than so many images; None for all.
        l2: the weight of |w|^2 / 2 beside the cross-entropy summed over images.
        max_iter: steps of L-BFGS at most.
    """

    def __init__(self, *, limit: int | None, train_limit: int | None, l2: float, max_iter: int) -> None:
        self.limit = at_most("limit", limit)
        self.train_limit = at_most("train_limit", train_limit)
        self.l2 = number("l2", l2, positive=True)
        self.max_iter = positive_integer("max_iter", max_iter)

    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if images have no labels, or all the same.
        """
        classifier = linear_classifier(l2=self.l2, max_iter=self.max_iter)
        findings = classified(subject, "probe", classifier, self.limit, self.train_limit)
        findings.recipe["probe_l2"] = self.l2
        return findings


class KNN(Measure):
    """Accuracy of a vote of the k nearest images of the training split, by Euclidean distance of codes E_q[z|x].

    Codes are not standardised: a unit that has collapsed to the prior is nearly constant, and its noise would count as
    much as a unit that the model uses. `knn_chance` as in `Probe`.

    Args:
        limit: no more than so many images are judged; None for all.
        train_limit: neighbours are sought among no more than so many images; None for all.
        k: neighbours that vote.
    """

    def __init__(self, *, limit: int | None, train_limit: int | None, k: int) -> None:
        self.limit = at_most("limit", limit)
        self.train_limit = at_most("train_limit", train_limit)
        self.k = positive_integer("k", k)

    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if images have no labels, or all the same, or there are fewer than k to train on.
        """
        from sklearn.neighbors import KNeighborsClassifier

        if self.k > (found := len(spread(len(subject.splits["train"]), self.train_limit))):
            raise NoMeaning(
                f"knn: there are {found} training images, and no {self.k} neighbours: metrics.knn.k={found}"
            )
        findings = classified(subject, "knn", KNeighborsClassifier(self.k), self.limit, self.train_limit)
        findings.recipe["knn_k"] = self.k
        return findings


class Silhouette(Measure):
    """How well the codes E_q[z|x] of a class keep together and apart from others, in [-1, 1] (Rousseeuw 1987).

    Args:
        limit: no more than so many images; None for all. The time grows with their square.
    """

    def __init__(self, *, limit: int | None) -> None:
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if images have no labels, all the same, or each its own.
        """
        from sklearn.metrics import silhouette_samples

        labels = labels_of(subject, "silhouette", subject.split, self.limit)
        if len(np.unique(labels)) == len(labels):
            raise NoMeaning(f"silhouette: each of {len(labels)} images is a class of its own; raise limit")
        codes = codes_of(subject, "silhouette", limit=self.limit)
        part = codes[spread(len(codes), TRIAL).numpy()]
        pairs = (len(codes) / len(part)) ** 2
        subject.foresee("silhouette", pairs, lambda: silhouette_samples(part, np.arange(len(part)) % 2))
        values = torch.from_numpy(silhouette_samples(codes, labels))
        return Findings(
            values={"silhouette": values.mean().item(), "silhouette_images": len(values)},
            per_image={"silhouette": values},
            recipe={"silhouette_images": len(values)},
        )


def classified(subject: Subject, name: str, classifier: Any, limit: int | None, train_limit: int | None) -> Findings:
    """The accuracy of a scikit-learn classifier that is fitted to codes of the training split.

    Raises:
        NoMeaning: if images have no labels, or all the same.
    """
    from sklearn.base import clone

    train_labels = labels_of(subject, name, "train", train_limit)
    labels = labels_of(subject, name, subject.split, limit)
    train_codes = codes_of(subject, f"{name}, training images", split="train", limit=train_limit)
    codes = codes_of(subject, name, limit=limit)
    part = spread(len(train_codes), TRIAL).numpy()
    if len(np.unique(train_labels[part])) > 1:
        trial = clone(classifier)
        times = len(train_codes) / len(part)
        subject.foresee(f"{name}, fit", times, lambda: fit(trial, train_codes[part], train_labels[part]))
    told = fit(classifier, train_codes, train_labels)
    few = codes[spread(len(codes), TRIAL).numpy()]
    subject.foresee(f"{name}, judged images", len(codes) / len(few), lambda: _predict(classifier, few))
    findings = Findings(warnings=[f"{name}: {line}; raise metrics.{name}.max_iter" for line in told])
    if subject.split == "train":
        findings.warnings.append(f"{name}: judged by images that it may have been fitted to; split=test")
    findings.add_mean(f"{name}_accuracy", torch.from_numpy(_predict(classifier, codes) == labels).double())
    findings.values[f"{name}_chance"] = float(np.bincount(labels).max() / len(labels))
    findings.values[f"{name}_train_images"] = findings.recipe[f"{name}_train_images"] = len(train_labels)
    return findings


def labels_of(subject: Subject, name: str, split: str, limit: int | None) -> Integers:
    """Labels (N,) of those images of a split that `Subject.map` takes.

    Raises:
        NoMeaning: if some have none, or all have the same.
    """
    images = subject.splits[split]
    labels: Integers = images.labels[spread(len(images), limit)].cpu().numpy()
    if missing := int((labels < 0).sum()):
        raise NoMeaning(
            f"{name}: {missing} of {len(labels)} images of split {split} have no label; use data with labels"
        )
    if len(np.unique(labels)) < 2:
        raise NoMeaning(f"{name}: the {len(labels)} images of split {split} have fewer than two classes")
    return labels


def _predict(classifier: Any, codes: Floats) -> Integers:
    predicted: Integers = classifier.predict(codes)
    return predicted
