"""Disentanglement without known factors: whether runs that differ in their seed learn the same units.

Shapes: N images, D latent dimensions, A and B informative units of two runs.
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
from nelbo.evaluation.measure import Findings, JointMeasure, NotApplicable, Subject
from nelbo.metrics import has_unit_kl
from nelbo.trace import element_kl

INFORMATIVE_KL = 0.01
"""Duan et al. 2020: a unit is informative if its KL, in nats, averaged over images, exceeds this."""

SAME = ("data_sha256", "protocol", "split_seed")
"""Keys of the provenance of the data that must be equal for all runs."""


class UDR(JointMeasure):
    """Unsupervised disentanglement ranking (Duan et al. 2020, section 4) of each run against all others.

    The codes E_q[z|x] of two runs are compared by the absolute value of Spearman's rank correlation, which does not
    depend on the order and the sign of units, nor on monotone maps of each. The score of two runs is 1 if every
    informative unit of one is perfectly correlated with one unit of the other and uncorrelated with the rest, so a run
    whose own units are correlated scores below 1 even against itself. The score of a run is the median over the others.
    The paper compares runs with the same hyperparameters and different seeds. The correlation of unrelated units is
    about 1 / sqrt(N), not 0.

    Args:
        limit: largest number of images; None for all.
    """

    top_level_only = True

    def __init__(self, *, limit: int | None) -> None:
        self.limit = at_most("limit", limit)

    def __call__(self, subjects: Sequence[Subject]) -> list[Findings]:
        """Measure the subject.

        Raises:
            NotApplicable: if there is only one run, the data differ, or a model has no KL per unit.
        """
        require_comparable_runs(subjects)
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


def require_comparable_runs(subjects: Sequence[Subject]) -> None:
    """Raise an error unless the runs have the same data, different checkpoints and a KL per unit.

    Raises:
        NotApplicable: if they cannot be compared.
    """
    if len(subjects) < 2:
        raise NotApplicable("udr: compares runs that differ in their seed, and only one is given; use run=[a,b,...]")
    files = [subject.checkpoint for subject in subjects if subject.checkpoint]
    if len(set(files)) < len(files):
        raise NotApplicable("udr: two of the runs have the same checkpoint; give different runs")
    for key in SAME:
        if len({subject.data.get(key) for subject in subjects}) > 1:
            values = ", ".join(f"{subject.name} {str(subject.data.get(key))[:12]}" for subject in subjects)
            raise NotApplicable(f"udr: the runs' data differ in {key}: {values}; give runs of the same data")
    if len({(subject.split, len(subject.images)) for subject in subjects}) > 1:
        raise NotApplicable("udr: the runs are evaluated on different images; give runs of the same data and split")
    for subject in subjects:
        require_vectors(subject, f"udr: {subject.name}", "which have no ranks to correlate")
        if not subject.example.has_density or not has_unit_kl(subject.example.latents[0]):
            raise NotApplicable(
                f"udr: {subject.name} has no KL per unit, which needs factorised q(z|x) and p(z) with a closed-form KL"
            )


def informative_codes(subject: Subject, limit: int | None) -> Floats:
    """Return E_q[z|x] of the units whose KL exceeds 0.01 nats, (N, A)."""
    p = subject.model.top_prior()

    @torch.no_grad()
    def encode(x: Tensor) -> dict[str, Tensor]:
        q = subject.model.encode(x)
        return {"codes": mean_of(q).flatten(1), "kl": element_kl(q, p).flatten(1)}

    per_image = subject.map("udr", encode, limit=limit)
    codes: Floats = per_image["codes"][:, per_image["kl"].double().mean(dim=0) > INFORMATIVE_KL].double().numpy()
    return codes


def rank_correlation(first: Floats, second: Floats) -> Floats:
    """Return |Spearman's rho| of each unit of one run (N, A) and each of another (N, B), (A, B); 0 if constant."""
    from scipy.stats import rankdata

    def standardised(codes: Floats) -> Floats:
        ranks = rankdata(codes, axis=0) - (len(codes) + 1) / 2  # ties have the average rank
        lengths = np.sqrt(np.square(ranks).sum(axis=0))
        unit_vectors: Floats = ranks / np.where(lengths > 0, lengths, 1)
        return unit_vectors

    return np.abs(standardised(first).T @ standardised(second))


def agreement(similarity: Floats) -> float:
    """Return how close two runs are to a one-to-one match of units, in [0, 1] (Duan et al. 2020, section 4).

    The score is 1 / (A + B) times the sum over columns b of r_b^2 / (sum over a of R_ab), with r_b the largest entry of
    column b, plus the same sum over rows. It is 0 if a run has no unit.

    Args:
        similarity: R, (A, B), of informative units only (I_KL in the paper).

    Example:
        >>> agreement(np.eye(3)), agreement(np.ones((2, 2)))
        (1.0, 0.5)
    """
    if not similarity.size:
        return 0.0
    total = 0.0
    for table in (similarity, similarity.T):
        sums = table.sum(axis=0)
        total += float((np.square(table.max(axis=0)) / np.where(sums > 0, sums, 1)).sum())
    return total / sum(similarity.shape)
