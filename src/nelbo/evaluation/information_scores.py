"""Mutual information of codes and factors, and the disentanglement scores that are based on it.

Information is estimated from frequencies, in nats. For N images the estimate is biased: independent codes and factors
share about (bins - 1) (values - 1) / 2N nats.

Shapes: N images, D latent dimensions, F factors; each factor has at least two values.
"""

from __future__ import annotations

import numpy as np

from nelbo.evaluation.codes import Floats, Integers


def binned(codes: Floats, num_bins: int) -> Integers:
    """Return the bin of each code (N, D), of `num_bins` bins of equal width between the extremes of each unit."""
    low, high = codes.min(axis=0), codes.max(axis=0)
    width = np.where(high > low, high - low, 1)
    bins: Integers = np.minimum(np.floor((codes - low) / width * num_bins), num_bins - 1).astype(np.int64)
    return bins


def entropies(values: Integers) -> Floats:
    """Return the entropy of each column of discrete values (N, F), (F,), in nats."""
    return np.array([_entropy(np.unique(column, return_counts=True)[1]) for column in values.T])


def shared_information(codes: Integers, factors: Integers) -> Floats:
    """Return I(z_i; v_k) = H(z_i) + H(v_k) - H(z_i, v_k) of discrete codes (N, D) and factors (N, F), (D, F)."""
    code_entropies, factor_entropies = entropies(codes), entropies(factors)
    information = np.empty((codes.shape[1], factors.shape[1]))
    for k, factor in enumerate(factors.T):
        values, indices = np.unique(factor, return_inverse=True)
        for i, code in enumerate(codes.T):
            joint = _entropy(np.bincount((code - code.min()) * len(values) + indices))
            information[i, k] = code_entropies[i] + factor_entropies[k] - joint
    return np.maximum(information, 0)  # rounding errors may be negative


def mutual_information_gaps(information: Floats, factor_entropies: Floats) -> Floats:
    """Return the gap of each factor, (F,), whose mean is MIG (Chen et al. 2018, eq. 6).

    The gap is (I(z_j; v_k) - max over i != j of I(z_i; v_k)) / H(v_k), where j is the unit with the most information
    about v_k: 1 if one unit determines the factor and the others have no information about it.

    Args:
        information: I(z_i; v_k), (D, F).
        factor_entropies: H(v_k), (F,).
    """
    return leads(information) / factor_entropies


def leads(scores: Floats) -> Floats:
    """Return the largest minus the second largest score of each column of (D, F), (F,); the score itself if D = 1."""
    ordered = np.sort(np.vstack([scores, np.zeros((1, scores.shape[1]))]), axis=0)
    lead: Floats = ordered[-1] - ordered[-2]
    return lead


def modularity(information: Floats) -> float:
    """Return whether each unit has information about one factor only: 1 if so, 0 if about all factors equally.

    Modularity (Ridgeway & Mozer 2018) is the mean over units of
    1 - sum over k != j of I(z_i; v_k)^2 / (I(z_i; v_j)^2 (F - 1)), where j is the factor about which z_i has the most
    information. The ratio is undefined for a unit without any information, which is ignored.

    Args:
        information: I(z_i; v_k), (D, F), with F of at least 2, of active units: the information of a constant unit is
            a rounding error.
    """
    squares = np.square(information)
    largest = squares.max(axis=1)
    squares, largest = squares[largest > 0], largest[largest > 0]
    if not len(largest):
        return 0.0
    return float((1 - (squares.sum(axis=1) - largest) / (largest * (information.shape[1] - 1))).mean())


def _entropy(counts: Integers) -> float:
    """Return the entropy of a variable whose values occur `counts` times, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
