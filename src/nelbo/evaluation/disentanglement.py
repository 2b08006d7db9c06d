"""Disentanglement scores for data with known factors of variation.

Shapes: N images, D latent dimensions, F factors.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from nelbo.errors import at_most, integer
from nelbo.evaluation.codes import Integers, codes_of
from nelbo.evaluation.information_scores import (
    binned,
    entropies,
    modularity,
    mutual_information_gaps,
    shared_information,
)
from nelbo.evaluation.likelihood import require_vectors
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject
from nelbo.evaluation.passes import mean_variances
from nelbo.evaluation.predictive_scores import dci, random_halves, separated_attribute_predictability
from nelbo.evaluation.sampled_scores import beta_vae_score, factor_vae_score
from nelbo.metrics.units import ACTIVE_VARIANCE
from nelbo.views.images import evenly_spaced

FEWEST_VOTES = 100
"""Smallest number of votes that is accepted."""


class Disentanglement(Measure):
    """Whether single units represent single factors: eight published scores of the codes E_q[z|x], all at most 1.

    MIG, DCI, SAP and the beta-VAE score use all units. Modularity and the FactorVAE score ask what each unit represents
    and use the active ones only, whose variance over images is above 0.01 (Burda et al. 2016). Factors that do not vary
    are ignored.

    Args:
        limit: largest number of images; None for all.
        num_bins: bins of each unit, for mutual information.
        num_votes: votes of the FactorVAE and beta-VAE scores to fit a classifier, and as many again to evaluate it.
        examples_per_vote: examples in a vote of the FactorVAE score, pairs of examples in one of the beta-VAE score.
    """

    top_level_only = True

    def __init__(self, *, limit: int | None, num_bins: int, num_votes: int, examples_per_vote: int) -> None:
        self.limit = at_most("limit", limit)
        self.num_bins = integer("num_bins", num_bins, minimum=2)
        self.num_votes = integer("num_votes", num_votes, minimum=FEWEST_VOTES)
        self.examples_per_vote = integer("examples_per_vote", examples_per_vote, minimum=2)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if fewer than two factors are known and vary, no two images share the value of a factor, no
                unit is active, or z are codes of classes.
        """
        from nelbo.views.factors import draw_information  # imports matplotlib

        require_vectors(subject, "disentanglement", "and the scores need numbers")
        factors, columns = varied_factors(subject, self.limit)
        active = (mean_variances(subject, self.limit) > ACTIVE_VARIANCE).numpy()
        if not active.any():
            raise NotApplicable(
                "disentanglement: no unit is active, so the codes have no information about the factors"
            )
        codes = codes_of(subject, "disentanglement", limit=self.limit)
        generator = np.random.default_rng(subject.seed)
        halves = random_halves(len(codes), generator)
        information = shared_information(binned(codes, self.num_bins), factors)
        factor_entropies = entropies(factors)
        forests, trees = (partial(subject.watch, f"disentanglement, {name}") for name in ("forests", "trees"))
        predicted = dci(codes, factors, halves, subject.seed, forests)
        votes = (self.num_votes, self.examples_per_vote, generator)
        beta_vae, messages = beta_vae_score(codes, factors, *votes)
        findings = Findings(
            values={
                "mig": float(mutual_information_gaps(information, factor_entropies).mean()),
                "dci_disentanglement": predicted.disentanglement,
                "dci_completeness": predicted.completeness,
                "dci_informativeness": predicted.informativeness,
                "sap": float(separated_attribute_predictability(codes, factors, halves, trees).mean()),
                "modularity": modularity(information[active]),
                "factor_vae_score": factor_vae_score(codes[:, active], factors, *votes),
                "beta_vae_score": beta_vae,
                "disentanglement_images": len(codes),
                "disentanglement_factors": len(columns),
                "disentanglement_active_units": int(active.sum()),
            },
            warnings=[f"beta_vae_score: {line}" for line in messages],
            recipe={
                "disentanglement_images": len(codes),
                "disentanglement_bins": self.num_bins,
                "disentanglement_votes": self.num_votes,
                "disentanglement_examples_per_vote": self.examples_per_vote,
            },
        )
        findings.warnings += self._warnings(factors, columns, subject)
        shares = torch.from_numpy(information[active] / factor_entropies)
        findings.pictures["mutual_information"] = draw_information(shares, np.flatnonzero(active).tolist(), columns)
        return findings

    def _warnings(self, factors: Integers, columns: list[int], subject: Subject) -> list[str]:
        """Return warnings about factors that do not vary, or that have too many values for the bins."""
        warnings = []
        assert subject.images.factors is not None
        if constant := sorted(set(range(subject.images.factors.shape[1])) - set(columns)):
            warnings.append(f"disentanglement: factors {_listed(constant)} do not vary and are ignored")
        many = [
            column for column, factor in zip(columns, factors.T, strict=True) if len(np.unique(factor)) > self.num_bins
        ]
        if many:
            warnings.append(
                f"mig: factors {_listed(many)} have more values than there are bins, {self.num_bins}, so no code can "
                "reach a score of 1; raise metrics.disentanglement.num_bins"
            )
        return warnings


def varied_factors(subject: Subject, limit: int | None) -> tuple[Integers, list[int]]:
    """Return the factors (N, F) that vary over at most `limit` evenly spaced images, and their column numbers.

    Raises:
        NotApplicable: if fewer than two factors vary, or no two images share the value of one of them.
    """
    known = subject.images.factors
    if known is None:
        hint = "use data=dsprites, or your own arrays with `Examples.factors`"
        raise NotApplicable(f"disentanglement: the data have no known factors of variation; {hint}")
    factors: Integers = known[evenly_spaced(len(subject.images), limit)].cpu().numpy()
    distinct = [len(np.unique(column)) for column in factors.T]
    columns = [column for column, count in enumerate(distinct) if count > 1]
    if len(columns) < 2:
        raise NotApplicable(
            f"disentanglement: {len(columns)} of {len(distinct)} factors vary, and at least two are needed"
        )
    if unique := [column for column in columns if distinct[column] == len(factors)]:
        raise NotApplicable(
            f"disentanglement: no two of {len(factors)} images share a value of factor {unique[0]}; raise limit"
        )
    return factors[:, columns], columns


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
