"""Disentanglement scores from examples that share the value of one factor.

Both papers render such examples. Here they are drawn from the data set: first a value of the factor, then examples that
have it.

Shapes: N examples, V votes, L examples or pairs per vote, D latent dimensions, F factors.
"""

from __future__ import annotations

import numpy as np

from nelbo.evaluation.codes import Floats, Integers, fit, linear_classifier


class Groups:
    """Examples grouped by the value of a factor; values of a single example are ignored.

    Args:
        factor: the value of each example, (N,).

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
        """Draw examples (V, L) with replacement; those of a vote share one value."""
        group = generator.integers(len(self._starts), size=(votes, 1))
        members: Integers = self._order[
            self._starts[group] + generator.integers(self._counts[group], size=(votes, size))
        ]
        return members

    def pairs(self, votes: int, size: int, generator: np.random.Generator) -> tuple[Integers, Integers]:
        """Draw pairs of different examples with the same value, (V, L) each; the value is drawn for each pair."""
        group = generator.integers(len(self._starts), size=(votes, size))
        start, count = self._starts[group], self._counts[group]
        first = generator.integers(count)
        second = (first + generator.integers(1, count)) % count
        return self._order[start + first], self._order[start + second]


def factor_vae_score(
    codes: Floats, factors: Integers, num_votes: int, examples_per_vote: int, generator: np.random.Generator
) -> float:
    """Return how well the unit with the smallest variance predicts which factor is fixed (Kim & Mnih 2018, section 4).

    In a vote a factor is fixed at a random value and L examples are drawn; the vote is for the unit with the smallest
    variance relative to its variance over all examples. Each unit predicts the factor of most of its votes. The
    prediction is fitted to `num_votes` votes, and its accuracy is measured on as many others. Chance is 1 / F.

    Args:
        codes: (N, D), of active units only: the noise of a constant unit would win votes.
        factors: (N, F).
        num_votes: votes to fit to, and as many again to test on.
        examples_per_vote: L.
        generator: generator of all random numbers.

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
    """Return how well a linear classifier predicts which factor pairs share (Higgins et al. 2017, section 3).

    In a vote L pairs of examples that share the value of one factor are drawn, and |z1 - z2| is averaged over them,
    (D,). A logistic regression on the standardised averages is fitted to `num_votes` votes, and its accuracy is
    measured on as many others. Chance is 1 / F.

    Args:
        codes: (N, D).
        factors: (N, F).
        num_votes: votes to fit to, and as many again to test on.
        examples_per_vote: L.
        generator: generator of all random numbers.

    Returns:
        The accuracy, and convergence warnings of the classifier.

    Raises:
        ValueError: if no two examples share a value of some factor.
    """
    fixed = generator.integers(factors.shape[1], size=2 * num_votes)
    differences = np.empty((len(fixed), codes.shape[1]))
    for k, factor in enumerate(factors.T):
        first, second = Groups(factor).pairs(int((fixed == k).sum()), examples_per_vote, generator)
        differences[fixed == k] = np.abs(codes[first] - codes[second]).mean(axis=1)
    classifier = linear_classifier(l2=1.0, max_iter=1000)
    messages = fit(classifier, differences[:num_votes], fixed[:num_votes])
    return float((classifier.predict(differences[num_votes:]) == fixed[num_votes:]).mean()), messages
