"""Disentanglement scores from predictors of the factors, fitted to one half of the images and tested on the other.

Shapes: N images, M images in one half, D latent dimensions, F factors; each factor has at least two values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nelbo.evaluation.codes import Floats, Integers
from nelbo.evaluation.information_scores import leads

Watch = Callable[[int, int], None]
"""A function that is called with the factors done and the factors in total."""

TREES = 30
"""Trees in a forest."""

MIN_LEAF = 5
"""Smallest number of images in a leaf."""


def ignore(done: int, total: int) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Args:
        importance: R, (D, F): importance of each unit for the prediction of each factor.
        accuracy: accuracy of the prediction of each factor, (F,).
    """

    importance: Floats
    accuracy: Floats

    @property
    def disentanglement(self) -> float:
        """Sum over units of rho_i (1 - H_F(R_i / sum R_i)), with H to base F, and rho_i the unit's share of R."""
        return _concentration(self.importance)

    @property
    def completeness(self) -> float:
        """Sum over factors of rho_k (1 - H_D(R_k / sum R_k)), with H to base D, and rho_k the factor's share of R."""
        return _concentration(self.importance.T)

    @property
    def informativeness(self) -> float:
        """Mean accuracy; the paper uses the error of a regression instead, but factors here are discrete."""
        return float(self.accuracy.mean())


def dci(codes: Floats, factors: Integers, halves: tuple[Integers, Integers], seed: int, watch: Watch = ignore) -> DCI:
    """Compute DCI from random forests with 30 trees, fitted to bootstrap samples.

    Importance is the decrease of Gini impurity. A split chooses among all units, not among a random subset as is usual
    for forests, so that a unit without information has no importance as the best one of a subset.

    Args:
        codes: (N, D).
        factors: (N, F).
        halves: positions of the images to fit to and to test on, (M,) each.
        seed: seed of the bootstrap samples.
        watch: called after each factor with the factors done and the factors in total.
    """
    from sklearn.ensemble import RandomForestClassifier

    fitted, tested = halves
    importances, accuracies = [], []
    for done, factor in enumerate(factors.T, 1):
        forest = RandomForestClassifier(TREES, min_samples_leaf=MIN_LEAF, max_features=None, random_state=seed)
        forest.fit(codes[fitted], factor[fitted])
        importances.append(forest.feature_importances_)
        accuracies.append((forest.predict(codes[tested]) == factor[tested]).mean())
        watch(done, factors.shape[1])
    return DCI(np.stack(importances, axis=1), np.array(accuracies))


def separated_attribute_predictability(
    codes: Floats, factors: Integers, halves: tuple[Integers, Integers], watch: Watch = ignore
) -> Floats:
    """Return how much better the best unit predicts each factor than the second best, (F,); SAP is the mean.

    This is the score of Kumar et al. 2018, section 3, for categorical factors: each unit alone predicts a factor by
    thresholds, with balanced accuracy. A factor with V values has V - 1 thresholds, chosen greedily (a decision tree
    with V leaves). Units without information have an accuracy of 1 / V, so the best possible SAP is 1 - 1 / V.

    Args:
        codes: (N, D).
        factors: (N, F).
        halves: positions of the images to fit to and to test on, (M,) each.
        watch: called after each factor with the factors done and the factors in total.
    """
    from sklearn.tree import DecisionTreeClassifier

    fitted, tested = halves
    scores = np.zeros((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(factors.T):
        chance = 1 / len(np.unique(factor))
        for i, code in enumerate(codes.T):
            tree = DecisionTreeClassifier(max_leaf_nodes=round(1 / chance), class_weight="balanced", random_state=0)
            tree.fit(code[fitted, None], factor[fitted])
            scores[i, k] = _balanced_accuracy(tree.predict(code[tested, None]), factor[tested]) - chance
        watch(k + 1, factors.shape[1])
    return leads(np.maximum(scores, 0))


def random_halves(total: int, generator: np.random.Generator) -> tuple[Integers, Integers]:
    """Return the positions 0 to `total` - 1 split into two random halves."""
    order = generator.permutation(total)
    return order[: total // 2], order[total // 2 :]


def _balanced_accuracy(predicted: Integers, truth: Integers) -> float:
    """Return the accuracy for each value that occurs in `truth`, averaged over these values."""
    return float(np.mean([(predicted[truth == value] == value).mean() for value in np.unique(truth)]))


def _concentration(importance: Floats) -> float:
    """Return 1 - H(row), to the base of the row's length, averaged with the rows' sums as weights; 0 if all are 0."""
    weights = importance.sum(axis=1)
    rows = importance[weights > 0] / weights[weights > 0, None]
    if not len(rows):
        return 0.0
    logarithms = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
    entropy = -(rows * logarithms).sum(axis=1) / math.log(max(2, importance.shape[1]))  # the entropy of one column is 0
    return float(np.average(1 - entropy, weights=weights[weights > 0]))
