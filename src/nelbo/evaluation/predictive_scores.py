"""Scores of disentanglement from predictors of the factors, fitted to one half of the images and judged by the other.

Shapes: N images, M of them in a half, D latent dimensions, F factors; each factor has at least two values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nelbo.evaluation.codes import Floats, Integers
from nelbo.evaluation.information_scores import leads

Watch = Callable[[int, int], None]
TREES = 30
MIN_LEAF = 5


def ignore(done: int, total: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness (Eastwood & Williams 2018).

    Args:
        importance: R, (D, F): how much of the prediction of each factor is owed to each unit.
        accuracy: of the predictions, (F,).
    """

    importance: Floats
    accuracy: Floats

    @property
    def disentanglement(self) -> float:
        """Sum over units of rho_i (1 - H_F(P_i)): P_i = R_i / sum R_i, H to the base F, rho_i the unit's share of R."""
        return _concentration(self.importance)

    @property
    def completeness(self) -> float:
        """The mean over factors of 1 - H_D(R_k / sum R_k), H to the base D, weighted as units are above."""
        return _concentration(self.importance.T)

    @property
    def informativeness(self) -> float:
        """The mean accuracy. The paper has the error of a regression instead; factors here are discrete."""
        return float(self.accuracy.mean())


def dci(codes: Floats, factors: Integers, halves: tuple[Integers, Integers], seed: int, watch: Watch = ignore) -> DCI:
    """R and accuracies of random forests: 30 trees on bootstrap samples, each split by the best of all units.

    A split chooses among all units, not among a random few as is usual for forests, so that a unit which tells nothing
    gets no importance for being the best at hand. Importance is the decrease of Gini impurity.

    Args:
        codes: (N, D).
        factors: (N, F).
        halves: positions of the images to fit to and to judge by, (M,) each.
        seed: of the bootstrap samples.
        watch: called after each factor with how many are done, out of how many.
    """
    from sklearn.ensemble import RandomForestClassifier

    fitted, judged = halves
    importances, accuracies = [], []
    for done, factor in enumerate(factors.T, 1):
        forest = RandomForestClassifier(TREES, min_samples_leaf=MIN_LEAF, max_features=None, random_state=seed)
        forest.fit(codes[fitted], factor[fitted])
        importances.append(forest.feature_importances_)
        accuracies.append((forest.predict(codes[judged]) == factor[judged]).mean())
        watch(done, factors.shape[1])
    return DCI(np.stack(importances, axis=1), np.array(accuracies))


def separated_attribute_predictability(
    codes: Floats, factors: Integers, halves: tuple[Integers, Integers], watch: Watch = ignore
) -> Floats:
    """By how much the best unit predicts each factor better than the second, (F,); SAP is their mean.

    Kumar et al. 2018, section 3, for categorical factors: thresholds on one unit at a time, judged by balanced
    accuracy. A factor of V values gets V - 1 thresholds, found greedily (a decision tree of V leaves). Units that tell
    nothing have an accuracy of 1 / V, so that the best possible SAP is 1 - 1 / V.

    Args:
        codes: (N, D).
        factors: (N, F).
        halves: positions of the images to fit to and to judge by, (M,) each.
        watch: called after each factor with how many are done, out of how many.
    """
    from sklearn.tree import DecisionTreeClassifier

    fitted, judged = halves
    scores = np.zeros((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(factors.T):
        chance = 1 / len(np.unique(factor))
        for i, code in enumerate(codes.T):
            tree = DecisionTreeClassifier(max_leaf_nodes=round(1 / chance), class_weight="balanced", random_state=0)
            tree.fit(code[fitted, None], factor[fitted])
            scores[i, k] = _balanced_accuracy(tree.predict(code[judged, None]), factor[judged]) - chance
        watch(k + 1, factors.shape[1])
    return leads(np.maximum(scores, 0))


def random_halves(total: int, generator: np.random.Generator) -> tuple[Integers, Integers]:
    """The positions 0 to `total` - 1 in two random halves."""
    order = generator.permutation(total)
    return order[: total // 2], order[total // 2 :]


def _balanced_accuracy(predicted: Integers, truth: Integers) -> float:
    """The mean over the values that occur of the accuracy at each."""
    return float(np.mean([(predicted[truth == value] == value).mean() for value in np.unique(truth)]))


def _concentration(importance: Floats) -> float:
    """1 - H(row) to the base of its length, averaged with the rows' sums as weights; 0 if all are 0."""
    weights = importance.sum(axis=1)
    rows = importance[weights > 0] / weights[weights > 0, None]
    if not len(rows):
        return 0.0
    logarithms = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
    entropy = -(rows * logarithms).sum(axis=1) / math.log(max(2, importance.shape[1]))  # one column: entropy 0
    return float(np.average(1 - entropy, weights=weights[weights > 0]))
