"""Which latent units carry nothing, since when, whether theory expects them to, and what could be done.

Shapes: N images, P pixels, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from nelbo.distributions import Flow, StandardNormal
from nelbo.errors import at_most, number
from nelbo.evaluation.likelihood import require_density, require_vectors
from nelbo.evaluation.linear_theory import LinearTheory, linear_theory
from nelbo.evaluation.measure import Findings, Measure, NoMeaning, Subject
from nelbo.evaluation.passes import mean_variances
from nelbo.metrics import KLPerUnit
from nelbo.metrics.collapse import OTHER_BETAS, final_beta, longer_training
from nelbo.metrics.units import ACTIVE_VARIANCE
from nelbo.trace import unit_kl


class Collapse(Measure):
    """Posterior collapse, unit by unit: KL, and Var_x(E_q[z_i]), above 0.01 for active units (Burda et al. 2016).

    A collapsed unit is a fault only where the data had a use for it. With a Gaussian likelihood of one sigma and a
    Gaussian prior the optimum of a linear model is known (Dai et al. 2018; Lucas et al. 2019): it is compared with.

    Args:
        limit: no more than so many images; None for all.
        kl_threshold: nats; a unit has collapsed since its KL stayed below this.
    """

    def __init__(self, *, limit: int | None, kl_threshold: float) -> None:
        self.limit = at_most("limit", limit)
        self.kl_threshold = number("kl_threshold", kl_threshold, positive=True)

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if the model has no KL that could collapse, or codes of classes.
        """
        require_density(subject, "collapse")
        require_vectors(subject, "collapse", "and units are active by the variance of a number; see kl_per_unit.csv")
        findings = Findings()
        variances = mean_variances(subject, self.limit)
        active = variances > ACTIVE_VARIANCE
        inactive = (~active).nonzero().flatten().tolist()
        kl = theory = None
        try:
            kl = mean_unit_kl(subject, self.limit)
            findings.values["kl_per_unit"] = " ".join(f"{value:.3f}" for value in kl.tolist())
        except NoMeaning as error:
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
            findings.warnings += [noise] if (noise := theory.noise(len(active))) else []
        except NoMeaning as error:
            findings.warnings.append(str(error))
        if inactive:
            if subject.unit_kl_history:
                findings.values["collapsed_since"] = since(subject.unit_kl_history, inactive, self.kl_threshold)
            else:
                findings.warnings.append("collapse: since when is not known, the run wrote no KL per unit")
            findings.warnings.append(verdict(subject, len(active), inactive, theory))
        from nelbo.views.units import draw_units  # brings matplotlib

        linear = None if theory is None else (theory.eigenvalues, theory.level, theory.worth, theory.spectrum.is_whole)
        findings.pictures["collapse"] = draw_units(kl, variances, ACTIVE_VARIANCE, *(linear or ()))
        return findings


def mean_unit_kl(subject: Subject, limit: int | None) -> Tensor:
    """KL(q(z_i|x) || p(z_i)) averaged over images, (D,), in nats, in float64.

    Raises:
        NoMeaning: if the units of q or p depend on each other.
    """
    if not KLPerUnit.applies(subject.example):
        raise NoMeaning(
            "kl_per_unit: the units of q(z|x) or p(z) depend on each other, so only their KL together exists"
        )
    p = subject.model.prior(subject.model.encode)
    found = subject.map("collapse", lambda x: {"kl": unit_kl(subject.model.encode(x), p)}, limit=limit)
    return found["kl"].double().mean(dim=0)


def ranges(units: Sequence[int]) -> str:
    """Ascending numbers in short: 3, 7-12."""
    runs: list[list[int]] = []
    for unit in units:
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = unit
        else:
            runs.append([unit, unit])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def since(history: Mapping[int, Sequence[float]], units: Sequence[int], threshold: float) -> str:
    """From which epoch on each unit's KL stays below a threshold, units together that share it.

    Args:
        history: KL of each unit, (D,), by epoch.
        units: those to tell of, ascending.
        threshold: in nats.
    """
    when: dict[int | None, list[int]] = {}
    for unit in units:
        start = None
        for epoch in sorted(history, reverse=True):
            if not history[epoch][unit] < threshold:
                break
            start = epoch
        when.setdefault(start, []).append(unit)
    told = [f"epoch {start}: {ranges(when[start])}" for start in sorted(key for key in when if key is not None)]
    if None in when:
        told.append(f"{threshold:g} nats or more at the end: {ranges(when[None])}")
    return "; ".join(told)


def verdict(subject: Subject, latent_dim: int, inactive: Sequence[int], theory: LinearTheory | None) -> str:
    """Whether the inactive units are a fault, and what to do, in one line."""
    active = latent_dim - len(inactive)
    told = f"collapse: {len(inactive)} of {latent_dim} units are inactive ({ranges(inactive)})"
    expected = None if theory is None else theory.units(latent_dim)
    fewer = max(active, 1)
    enough = f"model.latent_dim={fewer} would do" if fewer < latent_dim else ""
    if expected is None:
        unused = f"; if the data has no use for them, {enough}" if enough else ""
        return f"{told}{unused}; if they should be in use: {remedies(subject)}"
    if expected <= active:
        return (
            f"{told}; the linear theory expects {expected} units, so collapse of the rest is the optimum and no fault"
            + (f"; {enough}" if enough else "")
        )
    return (
        f"{told}; the linear theory expects {expected} units, {expected - active} more than are active; a nonlinear "
        f"decoder may need fewer; if they should be in use: {remedies(subject)}"
    )


def remedies(subject: Subject) -> str:
    """What may wake units, in words of the config, as far as the run does not have it; the most likely first."""
    (latent,) = subject.example.latents
    beta = final_beta(subject.config)
    end = "" if beta in (None, 1) else f",end:{beta:g}"
    objective, longer = subject.config.get("objective") or {}, longer_training(subject.steps)
    told = [longer] if longer else []
    if not objective or ("beta" in objective and objective.get("_target_") not in OTHER_BETAS):
        told.append("a lower objective.beta" + ("" if beta is None else f" than {beta:g}"))
        told.append(
            f"a KL warm-up, 'objective.beta={{linear:{{steps:2000{end}}}}}' or {{cyclical:{{steps:2000{end}}}}}"
        )
    if objective.get("_target_") != "nelbo.objectives.FreeBits":
        told.append("objective=free_bits")
    if isinstance(latent.p, StandardNormal):
        told.append("prior=flow" if isinstance(latent.q, Flow) else "prior=vamp or prior=flow")
    return "; ".join(told)
