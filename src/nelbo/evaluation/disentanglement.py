"""Scores of disentanglement of data whose factors of variation are known.

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
from nelbo.evaluation.measure import Findings, Measure, NoMeaning, Subject, spread
from nelbo.evaluation.passes import mean_variances
from nelbo.evaluation.predictive_scores import dci, random_halves, separated_attribute_predictability
from nelbo.evaluation.sampled_scores import beta_vae_score, factor_vae_score
from nelbo.metrics.units import ACTIVE_VARIANCE

FEWEST_VOTES = 100


class Disentanglement(Measure):
    """Whether single units stand for single factors: eight published scores of the codes E_q[z|x], all at most 1.

    MIG, DCI, SAP and the beta-VAE score take all units; modularity and the FactorVAE score the active ones, whose
    variance over images is above 0.01 (Burda et al. 2016), because they ask what a unit stands for. Factors that do not
    vary are left out.

    Args:
        limit: no more than so many images; None for all.
        num_bins: of each unit, for mutual information.
        num_votes: of the FactorVAE and beta-VAE scores, to fit; as many judge.
        examples_per_vote: examples, or pairs of them, of which a vote is made.
    """

    def __init__(self, *, limit: int | None, num_bins: int, num_votes: int, examples_per_vote: int) -> None:
        self.limit = at_most("limit", limit)
        self.num_bins = integer("num_bins", num_bins, minimum=2)
        self.num_votes = integer("num_votes", num_votes, minimum=FEWEST_VOTES)
        self.examples_per_vote = integer("examples_per_vote", examples_per_vote, minimum=2)

    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if fewer than two factors are known and vary, too few images share a value, no unit is active, or
                z are classes.
        """
        from nelbo.views.factors import draw_information  # brings matplotlib

        require_vectors(subject, "disentanglement", "and the scores are of numbers")
        factors, columns = varied_factors(subject, self.limit)
        active = (mean_variances(subject, self.limit) > ACTIVE_VARIANCE).numpy()
        if not active.any():
            raise NoMeaning("disentanglement: no unit is active, so the codes tell of no factor")
        codes = codes_of(subject, "disentanglement", limit=self.limit)
        generator = np.random.default_rng(subject.seed)
        halves = random_halves(len(codes), generator)
        information = shared_information(binned(codes, self.num_bins), factors)
        factor_entropies = entropies(factors)
        forests, trees = (partial(subject.watch, f"disentanglement, {name}") for name in ("forests", "trees"))
        predicted = dci(codes, factors, halves, subject.seed, forests)
        votes = (self.num_votes, self.examples_per_vote, generator)
        beta_vae, told = beta_vae_score(codes, factors, *votes)
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
            warnings=[f"beta_vae_score: {line}" for line in told],
            recipe={
                "disentanglement_images": len(codes),
                "disentanglement_bins": self.num_bins,
                "disentanglement_votes": self.num_votes,
                "disentanglement_examples_per_vote": self.examples_per_vote,
            },
        )
        findings.warnings += self._cautions(factors, columns, subject)
        shares = torch.from_numpy(information[active] / factor_entropies)
        findings.pictures["mutual_information"] = draw_information(shares, np.flatnonzero(active).tolist(), columns)
        return findings

    def _cautions(self, factors: Integers, columns: list[int], subject: Subject) -> list[str]:
        cautions = []
        assert subject.images.factors is not None
        if constant := sorted(set(range(subject.images.factors.shape[1])) - set(columns)):
            cautions.append(f"disentanglement: factors {_listed(constant)} do not vary and are left out")
        many = [
            column for column, factor in zip(columns, factors.T, strict=True) if len(np.unique(factor)) > self.num_bins
        ]
        if many:
            told = f"factors {_listed(many)} have more values than codes have bins, {self.num_bins}"
            cautions.append(f"mig: {told}, so no code reaches 1; metrics.disentanglement.num_bins=...")
        return cautions


def varied_factors(subject: Subject, limit: int | None) -> tuple[Integers, list[int]]:
    """The factors (N, F) that vary over the images taken, and which of the known ones they are.

    Raises:
        NoMeaning: if there are fewer than two, or one of which no two images share a value.
    """
    known = subject.images.factors
    if known is None:
        hint = "data=dsprites has them, as have arrays of your own with `Examples.factors`"
        raise NoMeaning(f"disentanglement: the data have no known factors of variation; {hint}")
    factors: Integers = known[spread(len(subject.images), limit)].cpu().numpy()
    distinct = [len(np.unique(column)) for column in factors.T]
    columns = [column for column, count in enumerate(distinct) if count > 1]
    if len(columns) < 2:
        raise NoMeaning(f"disentanglement: {len(columns)} of {len(distinct)} factors vary, and it takes two")
    if alone := [column for column in columns if distinct[column] == len(factors)]:
        raise NoMeaning(
            f"disentanglement: no two of {len(factors)} images share a value of factor {alone[0]}; raise limit"
        )
    return factors[:, columns], columns


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
