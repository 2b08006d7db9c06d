"""Measures that need one pass over the images: the ELBO and active units.

Shapes: N images, B batch, D latent dimensions of the top level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.distributions import two_means
from nelbo.errors import at_most, positive_integer
from nelbo.evaluation.likelihood import add_bits_per_dim, require_vectors
from nelbo.evaluation.measure import Findings, Measure, Subject
from nelbo.metrics.moments import covariance, moments
from nelbo.metrics.units import ACTIVE_VARIANCE
from nelbo.numerics.precision import finest


class ELBO(Measure):
    """KL (`rate`), reconstruction (`distortion`) and their sum, the negative ELBO at beta = 1, in nats per image.

    A model without a KL, such as posterior=deterministic, has the reconstruction only.

    Args:
        num_samples: Monte Carlo samples of q(z|x) per image.
        limit: largest number of images; None for all.
    """

    def __init__(self, *, num_samples: int, limit: int | None) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject."""
        has_kl = subject.example.has_kl

        @torch.no_grad()
        def measure(x: Tensor) -> dict[str, Tensor]:
            trace = subject.model.trace(x, self.num_samples)
            values = {"distortion": -trace.over_samples(finest(trace.log_px))}
            if has_kl:
                values["rate"] = trace.over_samples(finest(trace.kl))
                values["nelbo"] = values["distortion"] + values["rate"]
            return values

        findings = Findings(recipe={"elbo_samples": self.num_samples})
        for key, per_image in subject.map("elbo", measure, limit=self.limit).items():
            findings.add_mean(key, per_image)
        findings.values["elbo_samples"] = self.num_samples
        if has_kl:
            add_bits_per_dim(findings, "bits_per_dim", subject, findings.per_image["nelbo"])
        return findings


class ActiveUnits(Measure):
    """Number of units with Var_x(E_q(z|x)[z]) > 0.01 (Burda et al. 2016, section 5.2), and of all units.

    With several levels these are units of the top level: the mean of a unit below it also varies with the levels above,
    whether or not the unit has information of its own, so only its KL tells (`Collapse`, `Levels`). A channel of a map
    is active if one of its elements is.

    Args:
        limit: largest number of images; None for all.
    """

    top_level_only = True

    def __init__(self, *, limit: int | None) -> None:
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if z are codes of classes.
        """
        require_vectors(
            subject, "active_units", "and a unit is active by the variance of a number; see test/code_perplexity"
        )
        variances = mean_variances(subject, self.limit).unflatten(0, subject.model.events[0])
        variances = variances.flatten(1).amax(1) if variances.ndim > 1 else variances
        return Findings({"active_units": int((variances > ACTIVE_VARIANCE).sum()), "units": len(variances)})


def mean_variances(subject: Subject, limit: int | None) -> Tensor:
    """Return Var_x(E_q(z|x)[z]) of each element of the top level, (D,), in float64; see `metrics.ActiveUnits`."""

    @torch.no_grad()
    def means(x: Tensor) -> dict[str, Tensor]:
        first, second = two_means(subject.model.encode(x))
        return {"first": first.flatten(1), "second": second.flatten(1)}

    per_image = subject.map("active units", means, limit=limit)
    return covariance(moments(per_image["first"].double(), per_image["second"].double()))
