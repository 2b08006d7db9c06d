"""Disentanglement without factors: whether runs that differ in their seed find the same units.

Shapes: N images, B batch, D latent dimensions of all levels together; A, B of them informative in two runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nelbo.distributions import mean_of
from nelbo.errors import at_most
from nelbo.evaluation.codes import Floats
from nelbo.evaluation.likelihood import require_vectors
from nelbo.evaluation.measure import Findings, JointMeasure, NoMeaning, Subject
from nelbo.metrics import KLPerUnit
from nelbo.metrics.units import kl_per_unit

INFORMATIVE_KL = 0.01
"""Duan et al. 2020: a unit is informative if its KL, in nats, averaged over images, exceeds this."""

SAME = ("data_sha256", "protocol", "split_seed")
"""What the data of all runs must have in common."""


class UDR(JointMeasure):
    """Unsupervised disentanglement ranking (Duan et al. 2020, section 4), of each run against all others.

    The codes E_q[z|x] of two runs are compared by Spearman's rank correlation, so that neither the order nor the sign
    of units counts, nor a monotone map of each. Two runs score 1 if every informative unit of one has a single
    counterpart in the other and is uncorrelated with the rest, so a run whose own units are correlated scores below 1
    even against itself; a run's score is the median over the others. The paper compares runs with the same
    hyperparameters and different seeds. Over N images the correlation of unrelated units is about 1 / sqrt(N), not 0.

    Args:
        limit: no more than so many images; None for all.
    """

    def __init__(self, *, limit: int | None) -> None:
        self.limit = at_most("limit", limit)

    def __call__(self, subjects: Sequence[Subject]) -> list[Findings]:
        """Measure.

        Raises:
            NoMeaning: if there is one run only, data differ, or a model has no KL per unit.
        """
        refuse_what_cannot_be_compared(subjects)
        codes = [informative_codes(subject, self.limit) for subject in subjects]
        scores = np.full((len(codes), len(codes)), np.nan)
        for i, first in enumerate(codes):
            for j, second in enumerate(codes[:i]):
                scores[i, j] = scores[j, i] = agreement(rank_correlation(first, second))
        images = len(codes[0])
        return [
            Findings(
                values={
                    "udr": float(np.nanmedian(row)),
                    "udr_informative_units": own.shape[1],
                    "udr_runs": len(codes),
                    "udr_images": images,
                },
                warnings=[] if own.shape[1] else ["udr: no unit is informative"],
                recipe={"udr_runs": len(codes), "udr_images": images},
            )
            for row, own in zip(scores, codes, strict=True)
        ]


def refuse_what_cannot_be_compared(subjects: Sequence[Subject]) -> None:
    """Runs must have seen the same images and have a KL per unit.

    Raises:
        NoMeaning: if not.
    """
    if len(subjects) < 2:
        raise NoMeaning("udr: compares runs that differ in their seed, and there is one: run=[a,b,...]")
    files = [subject.checkpoint for subject in subjects if subject.checkpoint]
    if len(set(files)) < len(files):
        raise NoMeaning("udr: two of the runs have the same checkpoint, which agrees with itself; give different ones")
    for key in SAME:
        if len({subject.data.get(key) for subject in subjects}) > 1:
            told = ", ".join(f"{subject.name} {str(subject.data.get(key))[:12]}" for subject in subjects)
            raise NoMeaning(f"udr: the runs' data differ in {key}: {told}; give runs of the same data")
    if len({(subject.split, len(subject.images)) for subject in subjects}) > 1:
        raise NoMeaning("udr: the runs are evaluated on different images; give runs of the same data and one split")
    for subject in subjects:
        require_vectors(subject, f"udr: {subject.name}", "which have no ranks to correlate")
        if not subject.example.has_density or not KLPerUnit.applies(subject.example):
            raise NoMeaning(
                f"udr: {subject.name} has no KL per unit; it takes a factorised q(z|x) and p(z) with a closed KL"
            )


def informative_codes(subject: Subject, limit: int | None) -> Floats:
    """E_q[z|x] of the units whose KL exceeds 0.01 nats, (N, A)."""

    @torch.no_grad()
    def encode(x: Tensor) -> dict[str, Tensor]:
        trace = subject.model.trace(x)
        means = torch.cat([mean_of(latent.q) for latent in trace.latents], dim=-1)
        return {"codes": means, "kl": kl_per_unit(trace)}

    found = subject.map("udr", encode, limit=limit)
    codes: Floats = found["codes"][:, found["kl"].double().mean(dim=0) > INFORMATIVE_KL].double().numpy()
    return codes


def rank_correlation(first: Floats, second: Floats) -> Floats:
    """|Spearman's rho| of each unit of one run (N, A) with each of another (N, B), (A, B); 0 for a constant unit."""
    from scipy.stats import rankdata

    def standardised(codes: Floats) -> Floats:
        ranks = rankdata(codes, axis=0) - (len(codes) + 1) / 2  # of ties the average
        lengths = np.sqrt(np.square(ranks).sum(axis=0))
        unit_vectors: Floats = ranks / np.where(lengths > 0, lengths, 1)
        return unit_vectors

    return np.abs(standardised(first).T @ standardised(second))


def agreement(similarity: Floats) -> float:
    """How far from a one-to-one match two runs are, in [0, 1] (Duan et al. 2020, section 4); 0 if one has no unit.

    1 / (A + B) (sum over b of r_b^2 / sum over a of R_ab, and the same for a), r_b the largest in R of column b.

    Args:
        similarity: R, (A, B), of informative units alone: the paper's I_KL.
    """
    if not similarity.size:
        return 0.0
    total = 0.0
    for table in (similarity, similarity.T):
        sums = table.sum(axis=0)
        total += float((np.square(table.max(axis=0)) / np.where(sums > 0, sums, 1)).sum())
    return total / sum(similarity.shape)
