"""Scores of disentanglement from samples that have one factor in common.

Both papers render such samples. Here they are drawn from a data set's own examples: a factor's value, then examples
that have it.

Shapes: N examples, V votes, L examples or pairs a vote, D latent dimensions, F factors.
"""

from __future__ import annotations

import numpy as np

from nelbo.evaluation.codes import Floats, Integers, fit, linear_classifier


class Groups:
    """The examples by the value of a factor; values that only one example has are left out.

    Args:
        factor: its values, (N,).

    Raises:
        ValueError: if no two examples share a value.
    """

    def __init__(self, factor: Integers) -> None:
        self._order = np.argsort(factor, kind="stable")
        _, starts, counts = np.unique(factor[self._order], return_index=True, return_counts=True)
        self._starts, self._counts = starts[counts > 1], counts[counts > 1]
        if not len(self._starts):
            raise ValueError("no two examples share a value of the factor")

    def sets(self, votes: int, size: int, generator: np.random.Generator) -> Integers:
        """Examples (V, L), drawn with replacement; those of a vote share one value."""
        group = generator.integers(len(self._starts), size=(votes, 1))
        members: Integers = self._order[
            self._starts[group] + generator.integers(self._counts[group], size=(votes, size))
        ]
        return members

    def pairs(self, votes: int, size: int, generator: np.random.Generator) -> tuple[Integers, Integers]:
        """Two different examples with one value, (V, L) each; every pair has a value of its own."""
        group = generator.integers(len(self._starts), size=(votes, size))
        start, count = self._starts[group], self._counts[group]
        first = generator.integers(count)
        second = (first + generator.integers(1, count)) % count
        return self._order[start + first], self._order[start + second]


def factor_vae_score(
    codes: Floats, factors: Integers, num_votes: int, examples_per_vote: int, generator: np.random.Generator
) -> float:
    """How well the unit that varies least tells which factor was fixed (Kim & Mnih 2018, section 4).

    A vote: fix a factor, take L examples, divide the variance of each unit by that over all examples, and take the unit
    of the least. A unit stands for the factor that most of the votes for it had: `num_votes` votes say which, and as
    many others are judged. 1 / F is chance.

    Args:
        codes: (N, D), of units that are active: in one that is constant, noise would vary least.
        factors: (N, F).
        num_votes: to fit, and again as many to judge by.
        examples_per_vote: L.
        generator: of all draws.

    Raises:
        ValueError: if no two examples share a value of some factor.
    """
    scaled = codes / codes.std(axis=0)
    fixed = generator.integers(factors.shape[1], size=2 * num_votes)
    least = np.empty_like(fixed)
    for k, factor in enumerate(factors.T):
        sets = Groups(factor).sets(int((fixed == k).sum()), examples_per_vote, generator)
        least[fixed == k] = scaled[sets].var(axis=1).argmin(axis=1)
    counts = np.zeros((codes.shape[1], factors.shape[1]))
    np.add.at(counts, (least[:num_votes], fixed[:num_votes]), 1)
    return float((counts.argmax(axis=1)[least[num_votes:]] == fixed[num_votes:]).mean())


def beta_vae_score(
    codes: Floats, factors: Integers, num_votes: int, examples_per_vote: int, generator: np.random.Generator
) -> tuple[float, list[str]]:
    """How well a linear classifier tells which factor pairs have in common (Higgins et al. 2017, section 3).

    A vote: fix a factor, take L pairs of examples that share a value of it, and average |z1 - z2| over them, (D,).
    Logistic regression on the standardised averages is fitted to `num_votes` votes and judged by as many others. 1 / F
    is chance.

    Args:
        codes: (N, D).
        factors: (N, F).
        num_votes: to fit, and again as many to judge by.
        examples_per_vote: L.
        generator: of all draws.

    Returns:
        The accuracy, and what kept the classifier from converging.

    Raises:
        ValueError: if no two examples share a value of some factor.
    """
    fixed = generator.integers(factors.shape[1], size=2 * num_votes)
    differences = np.empty((len(fixed), codes.shape[1]))
    for k, factor in enumerate(factors.T):
        first, second = Groups(factor).pairs(int((fixed == k).sum()), examples_per_vote, generator)
        differences[fixed == k] = np.abs(codes[first] - codes[second]).mean(axis=1)
    classifier = linear_classifier(l2=1.0, max_iter=1000)
    told = fit(classifier, differences[:num_votes], fixed[:num_votes])
    return float((classifier.predict(differences[num_votes:]) == fixed[num_votes:]).mean()), told
