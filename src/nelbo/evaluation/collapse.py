"""Posterior collapse: inactive units, the epoch from which they were, the number that theory predicts, and remedies.

Shapes: N images, P pixels, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nelbo.distributions import Flow, StandardNormal
from nelbo.errors import at_most, number
from nelbo.evaluation.collapse_by_level import measure_by_level, named, ranges
from nelbo.evaluation.likelihood import require_density, require_vectors
from nelbo.evaluation.linear_theory import linear_theory
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject
from nelbo.evaluation.passes import mean_variances
from nelbo.metrics import has_unit_kl
from nelbo.metrics.collapse import OTHER_BETAS, final_beta, longer_training
from nelbo.metrics.units import ACTIVE_VARIANCE
from nelbo.theory.linear import LinearTheory
from nelbo.trace import unit_kl


class Collapse(Measure):
    """Posterior collapse, unit by unit: KL, and Var_x(E_q[z_i]), above 0.01 for active units (Burda et al. 2016).

    An inactive unit is a fault only if the data have a use for it. For a Gaussian likelihood with one sigma and a
    Gaussian prior, the number of active units is compared with the optimum of a linear model, which is known in closed
    form (Dai et al. 2018; Lucas et al. 2019).

    With several levels a unit is inactive if its KL is below `kl_threshold`, and a level is dead if its KL is below
    0.1 nats; see `collapse_by_level`.

    Args:
        limit: largest number of images; None for all.
        kl_threshold: in nats; `collapsed_since` is the epoch from which the KL of a unit stayed below it.
    """

    def __init__(self, *, limit: int | None, kl_threshold: float) -> None:
        self.limit = at_most("limit", limit)
        self.kl_threshold = number("kl_threshold", kl_threshold, positive=True)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the model has no KL that could collapse, or codes of classes.
        """
        require_density(subject, "collapse")
        require_vectors(subject, "collapse", "and a unit is active by the variance of a number; see kl_per_unit.csv")
        if len(subject.model.events) > 1:
            return self.of_levels(subject)
        findings = Findings()
        variances = mean_variances(subject, self.limit)
        active = variances > ACTIVE_VARIANCE
        inactive = (~active).nonzero().flatten().tolist()
        kl = theory = None
        try:
            kl = mean_unit_kl(subject, self.limit)
            findings.values["kl_per_unit"] = " ".join(f"{value:.3f}" for value in kl.tolist())
        except NotApplicable as error:
            findings.warnings.append(str(error))
        findings.values |= {
            "collapse_active_units": int(active.sum()),
            "collapse_units": len(active),
            "collapse_inactive": ranges(inactive) or "none",
        }
        try:
            theory = linear_theory(subject)
            findings.values["collapse_predicted_units"] = theory.units(len(active))
            findings.values["collapse_water_level"] = theory.level
            findings.warnings += sampling_noise(theory, len(active))
        except NotApplicable as error:
            findings.warnings.append(str(error))
        if inactive:
            self.add_since(findings, subject, inactive)
            findings.warnings.append(verdict(subject, len(active), inactive, theory))
        from nelbo.views.units import draw_units  # imports matplotlib

        findings.pictures["collapse"] = draw_units(kl, variances, ACTIVE_VARIANCE, theory)
        return findings

    def of_levels(self, subject: Subject) -> Findings:
        """Measure a model with several levels."""
        findings, inactive = measure_by_level(subject, self.limit, self.kl_threshold)
        if inactive:
            self.add_since(findings, subject, inactive)
            units, names = findings.values["collapse_units"], findings.values["collapse_inactive"]
            ways = remedies(subject, prior=inactive[0] < subject.model.events[0][0])
            findings.warnings.append(
                f"collapse: {len(inactive)} of {units} units are inactive ({names}); if the data have a use for them, "
                f"try: {ways}"
            )
        return findings

    def add_since(self, findings: Findings, subject: Subject, inactive: Sequence[int]) -> None:
        """Add the epoch from which each inactive unit stayed below the threshold, or a warning that it is unknown."""
        if subject.unit_kl_history:
            sizes = [event[0] for event in subject.model.events]
            text = since(subject.unit_kl_history, inactive, self.kl_threshold, sizes)
            findings.values["collapsed_since"] = text
        else:
            findings.warnings.append(
                "collapse: the epoch of the collapse is unknown, because the run did not record the KL of each unit"
            )


def mean_unit_kl(subject: Subject, limit: int | None) -> Tensor:
    """Return KL(q(z_i|x) || p(z_i)) averaged over images, (D,), in nats, in float64.

    Raises:
        NotApplicable: if the units of q or p depend on each other.
    """
    if not has_unit_kl(subject.example.latents[0]):
        raise NotApplicable(
            "kl_per_unit: the units of q(z|x) or p(z) depend on each other, so only their joint KL is defined"
        )
    p = subject.model.top_prior()
    per_image = subject.map("collapse", lambda x: {"kl": unit_kl(subject.model.encode(x), p)}, limit=limit)
    return per_image["kl"].double().mean(dim=0)


def since(
    history: Mapping[int, Sequence[float]], units: Sequence[int], threshold: float, sizes: Sequence[int] = ()
) -> str:
    """Describe from which epoch on the KL of each unit stays below a threshold, with units of the same epoch together.

    Args:
        history: KL of each unit of all levels, (D,), by epoch.
        units: the units to describe, ascending.
        threshold: in nats.
        sizes: number of units of each level, top first, by which units are named if there are several levels.

    Example:
        >>> history = {1: [0.5, 0.0, 0.5], 2: [0.5, 0.0, 0.0]}
        >>> since(history, [0, 1, 2], threshold=0.01)
        'epoch 1: 1; epoch 2: 2; 0.01 nats or more at the end: 0'
        >>> since(history, [1, 2], threshold=0.01, sizes=[1, 2])
        'epoch 1: level 2 unit 0; epoch 2: level 2 unit 1'
    """

    def name(units: Sequence[int]) -> str:
        return named(units, sizes) if len(sizes) > 1 else ranges(units)

    starts: dict[int | None, list[int]] = {}
    for unit in units:
        start = None
        for epoch in sorted(history, reverse=True):
            if not history[epoch][unit] < threshold:
                break
            start = epoch
        starts.setdefault(start, []).append(unit)
    parts = [f"epoch {start}: {name(starts[start])}" for start in sorted(key for key in starts if key is not None)]
    if None in starts:
        parts.append(f"{threshold:g} nats or more at the end: {name(starts[None])}")
    return "; ".join(parts)


def sampling_noise(theory: LinearTheory, latent_dim: int) -> list[str]:
    """Return a warning if held-out images contradict some units that the training images alone would justify."""
    above, units = theory.units_above_level(latent_dim), theory.units(latent_dim)
    if above == units:
        return []
    return [
        f"collapse: {above} units have an eigenvalue of the training images above the level, but only {units} of them "
        "lower the loss of held-out images; the others are sampling noise"
    ]


def verdict(subject: Subject, latent_dim: int, inactive: Sequence[int], theory: LinearTheory | None) -> str:
    """Return one line that says whether the inactive units are a fault, and what to try."""
    active = latent_dim - len(inactive)
    summary = f"collapse: {len(inactive)} of {latent_dim} units are inactive ({ranges(inactive)})"
    expected = None if theory is None else theory.units(latent_dim)
    fewer = max(active, 1)
    enough = f"model.latent_dim={fewer} is enough" if fewer < latent_dim else ""
    if expected is None:
        unused = f"; if the data have no use for them, {enough}" if enough else ""
        return f"{summary}{unused}; if they should be active, try: {remedies(subject)}"
    if expected <= active:
        return (
            f"{summary}; the linear theory predicts {expected} active units, so the collapse of the others is optimal "
            "and not a fault" + (f"; {enough}" if enough else "")
        )
    return (
        f"{summary}; the linear theory predicts {expected} active units, {expected - active} more than there are; a "
        f"nonlinear decoder may need fewer; if they should be active, try: {remedies(subject)}"
    )


def remedies(subject: Subject, *, prior: bool = True) -> str:
    """Return what may activate units, as overrides that the run does not have yet, the most promising first.

    Args:
        subject: the model and its run.
        prior: whether another prior of the top level is one of them.
    """
    latent = subject.example.latents[0]
    beta = final_beta(subject.config)
    end = "" if beta in (None, 1) else f",end:{beta:g}"
    objective, longer = subject.config.get("objective") or {}, longer_training(subject.steps)
    options = [longer] if longer else []
    if not objective or ("beta" in objective and objective.get("_target_") not in OTHER_BETAS):
        options.append("a lower objective.beta" + ("" if beta is None else f" than {beta:g}"))
        options.append(
            f"a KL warm-up, 'objective.beta={{linear:{{steps:2000{end}}}}}' or {{cyclical:{{steps:2000{end}}}}}"
        )
    if objective.get("_target_") != "nelbo.objectives.FreeBits":
        options.append("objective=free_bits")
    if prior and isinstance(latent.p, StandardNormal):
        nested = bool((subject.config.get("model") or {}).get("nesting"))  # a flow has no part for the first K units
        both = "prior=vamp" if nested else "prior=vamp or prior=flow"
        options.append("prior=flow" if isinstance(latent.q, Flow) else both)
    return "; ".join(options)
