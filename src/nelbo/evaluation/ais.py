"""The measure `ais`, annealed importance sampling.

Shapes: S chains, N images, B batch, C H W image.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from nelbo.errors import at_most, integer, positive_integer
from nelbo.evaluation.annealing import (
    Annealed,
    adapt_step_sizes,
    anneal,
    lower_bound,
    sigmoid_schedule,
    simulate,
    upper_bound,
)
from nelbo.evaluation.chunks import samples_at_once
from nelbo.evaluation.hmc import latents, split
from nelbo.evaluation.likelihood import require_vectors
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject, mean_and_error
from nelbo.models import Model
from nelbo.views.images import evenly_spaced

LOW_ACCEPTANCE = 0.4
"""Acceptance rate below which there is a warning."""

WIDE_GAP = 1.0
"""Difference between the two bounds of simulated images, in nats, above which there is a warning."""

SHARE = 50
"""A trial that estimates the duration has one fiftieth of the temperatures."""

CHAINS_PER_PILOT = 4
"""Weighted chains for each pilot chain, which adapts step sizes."""


class AIS(Measure):
    """-log p(x) by annealed importance sampling, in nats per image, and a check of it from both sides.

    AIS does not use q(z|x), so it gives an answer where importance sampling from q(z|x) has too few effective samples
    (Neal 2001; Wu et al. 2017, "On the quantitative analysis of decoder-based generative models"). `ais_nll` is in
    expectation an upper bound of -log p(x) that falls with the number of temperatures.

    Bidirectional Monte Carlo (Grosse et al. 2015) shows how close it is: for images that are sampled from the model
    together with their z, `ais_lower` and `ais_upper` bound log p(x) from both sides, and `ais_gap` is their
    difference. The error on real images is of the same size only as far as they are similar to the model's samples.

    Args:
        num_chains: S, chains of each image.
        num_temperatures: T, steps from p(z) to p(x, z).
        num_leapfrog_steps: leapfrog steps of each proposal.
        limit: largest number of images; None for all.
        num_simulated: images that are sampled from the model for the check; 0 for no check.
    """

    def __init__(
        self, *, num_chains: int, num_temperatures: int, num_leapfrog_steps: int, limit: int | None, num_simulated: int
    ) -> None:
        self.num_chains = positive_integer("num_chains", num_chains)
        self.num_temperatures = integer("num_temperatures", num_temperatures, minimum=2)
        self.num_leapfrog_steps = positive_integer("num_leapfrog_steps", num_leapfrog_steps)
        self.limit = at_most("limit", limit)
        self.num_simulated = integer("num_simulated", num_simulated, minimum=0)
        self.betas = sigmoid_schedule(self.num_temperatures)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if p(z) has no density, or p(x|z) no gradient with respect to z.
        """
        check(subject)
        decoded = partial(samples_at_once, subject.model, gradients=True)
        size = max(1, subject.of_batch(subject.images, torch.arange(1), decoded) // self.num_chains)

        def measure(x: Tensor) -> dict[str, Tensor]:
            chains = self.anneal(subject.model, x, self.step_sizes(subject.model, x))
            return {"nll": -lower_bound(chains.log_weights), "acceptance": chains.acceptance}

        self.estimate_duration(subject, size)
        per_image = subject.map("ais", measure, limit=self.limit, batch_size=size)
        findings = Findings()
        findings.add_mean("ais_nll", per_image["nll"])
        acceptance = per_image["acceptance"].mean().item()
        findings.recipe = {
            "ais_chains": self.num_chains,
            "ais_temperatures": self.num_temperatures,
            "ais_leapfrog_steps": self.num_leapfrog_steps,
        }
        findings.values |= findings.recipe | {"ais_images": len(per_image["nll"]), "ais_acceptance": acceptance}
        if acceptance < LOW_ACCEPTANCE:
            findings.warnings.append(
                f"ais: only {acceptance:.0%} of the proposals were accepted, because the step size changes more slowly "
                f"than the temperature; try metrics.ais.num_temperatures={4 * self.num_temperatures}"
            )
        if self.num_simulated:
            self.add_bracket(findings, self.bracket(subject, size))
        return findings

    def estimate_duration(self, subject: Subject, size: int) -> None:
        """Estimate the duration by a trial with fewer temperatures on one batch of `size` images."""
        few = AIS(
            num_chains=self.num_chains,
            num_temperatures=max(2, self.num_temperatures // SHARE),
            num_leapfrog_steps=self.num_leapfrog_steps,
            limit=self.limit,
            num_simulated=0,
        )
        images = len(evenly_spaced(len(subject.images), self.limit))
        pilots = max(1, self.num_chains // CHAINS_PER_PILOT)
        # A simulated image is annealed twice, forward and backward, with the same step sizes.
        simulated = self.num_simulated * (2 * self.num_chains + pilots) / (self.num_chains + pilots)
        times = self.num_temperatures / few.num_temperatures * (1 + simulated / images)
        subject.estimate_map_duration(
            "ais",
            lambda x: few.anneal(subject.model, x, few.step_sizes(subject.model, x)),
            times,
            self.limit,
            size,
        )

    def add_bracket(self, findings: Findings, bounds: Tensor) -> None:
        """Add the bounds of simulated images, (N, 2), and warnings about them."""
        findings.values["ais_simulated_images"] = len(bounds)
        if len(bounds) < self.num_simulated:
            findings.warnings.append(
                f"ais: {self.num_simulated - len(bounds)} of {self.num_simulated} simulated images are not part of "
                "ais_gap, because pixels at the edge of the support have no finite density"
            )
        if not len(bounds):
            return
        lower, upper = bounds.unbind(1)
        for name, values in {"lower": lower, "upper": upper, "gap": upper - lower}.items():
            findings.values[f"ais_{name}"], error = mean_and_error(values)
            findings.values |= {f"ais_{name}_se": error} if len(values) > 1 else {}
        gap = (upper - lower).mean().item()
        if not gap <= WIDE_GAP:
            findings.warnings.append(
                f"ais: on simulated images the bounds differ by {gap:.2f} nats, so ais_nll may be off by as much; "
                f"try metrics.ais.num_temperatures={4 * self.num_temperatures}"
            )

    def bracket(self, subject: Subject, size: int) -> Tensor:
        """Return a lower and an upper bound of log p(x) of simulated images, (N, 2); processes share the images."""
        counts = [len(part) for part in torch.arange(self.num_simulated).split(size)]
        processes, parts = subject.processes, []
        for number in range(processes.rank, len(counts), processes.count):
            with subject.random_state("ais, simulated", number):
                parts.append(self.bounds(subject.model, counts[number]).cpu())
            subject.watch("ais, simulated", min(number + processes.count, len(counts)), len(counts))
        return torch.cat(processes.join(parts, len(counts)))

    def bounds(self, model: Model, count: int) -> Tensor:
        """Return both bounds of log p(x) of up to `count` simulated images, (N, 2)."""
        z, x = simulate(model, count)
        if not len(x):
            return torch.empty(0, 2, dtype=torch.float64)
        step_sizes = self.step_sizes(model, x)
        lower = lower_bound(self.anneal(model, x, step_sizes).log_weights)
        upper = upper_bound(self.anneal(model, x, step_sizes, exact=z).log_weights)
        return torch.stack([lower, upper], dim=1)

    def step_sizes(self, model: Model, x: Tensor) -> Tensor:
        """Return step sizes that are adapted on separate pilot chains, (T - 1, B)."""
        chains = max(1, self.num_chains // CHAINS_PER_PILOT)
        return adapt_step_sizes(model, x, self.betas, num_chains=chains, num_leapfrog_steps=self.num_leapfrog_steps)

    def anneal(self, model: Model, x: Tensor, step_sizes: Tensor, exact: Tensor | None = None) -> Annealed:
        """Anneal all chains of images x; see `annealing.anneal`."""
        return anneal(
            model,
            x,
            self.betas,
            step_sizes,
            num_chains=self.num_chains,
            num_leapfrog_steps=self.num_leapfrog_steps,
            exact=exact,
        )


def check(subject: Subject) -> None:
    """Raise an error if the model cannot be annealed.

    Raises:
        NotApplicable: if p(z) has no density, p(x|z) no gradient with respect to z, or lower levels are not made of
            noise.
    """
    require_vectors(subject, "ais", "between which no gradient leads; use metrics=[nll] or [elbo]")
    model, x = subject.model, subject.images[torch.arange(1)].to(subject.device)
    with torch.enable_grad():
        z = x.new_zeros(1, 1, math.prod(model.events[0]) + model.noise_size).requires_grad_()
        try:
            model.top_prior().log_prob(split(model, z)[0])
        except NotImplementedError as error:
            raise NotApplicable("ais: p(z) has no density to start from, which metrics=[nll] needs as well") from error
        try:
            zs = latents(model, z)
        except NotImplementedError as error:
            raise NotApplicable("ais: the model does not make levels below the top of noise") from error
        if not model.decode(*zs).log_prob(x).requires_grad:
            raise NotApplicable(
                "ais: p(x|z) has no gradient with respect to z, which the proposals need; use metrics=[nll]"
            )
