"""Annealed importance sampling as a measure.

Shapes: S chains, N images, B batch, C H W image.
"""

from __future__ import annotations

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
from nelbo.evaluation.importance import CHUNK_PIXELS
from nelbo.evaluation.likelihood import require_vectors
from nelbo.evaluation.measure import Findings, Measure, NoMeaning, Subject, mean_and_error, spread
from nelbo.models import VAE

LOW_ACCEPTANCE = 0.4
WIDE_GAP = 1.0
"""Nats between the two bounds of simulated images above which the number of temperatures is called too small."""

SHARE = 50
"""Of the temperatures a trial that says how long it will take has the fiftieth part."""

CHAINS_PER_PILOT = 4
"""One chain finds step sizes for so many that are weighted."""


class AIS(Measure):
    """-log p(x) by annealed importance sampling, in nats an image, and a two-sided check of it.

    It does not use q(z|x), so it is the judge where importance sampling from q(z|x) has too few effective samples
    (Neal 2001; Wu et al. 2017, "On the quantitative analysis of decoder-based generative models"). `ais_nll` is in
    expectation an upper bound of -log p(x) that falls with the number of temperatures.

    How close it is, bidirectional Monte Carlo says (Grosse et al. 2015): for images that the model itself made, with
    the z that they were made from, `ais_lower` and `ais_upper` bound log p(x) from both sides, and `ais_gap` lies
    between them. On real images the error is as small only so far as they are like those that the model makes.

    Args:
        num_chains: S, of each image.
        num_temperatures: T, steps from p(z) to p(x, z).
        num_leapfrog_steps: of each proposal.
        limit: no more than so many images; None for all.
        num_simulated: images that are simulated for the check; 0 for no check.
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
        """Measure.

        Raises:
            NoMeaning: if p(z) has no density, or p(x|z) no gradient with respect to z, as of classes.
        """
        check(subject)
        size = max(1, CHUNK_PIXELS // (self.num_chains * subject.images[torch.arange(1)].numel()))

        def measure(x: Tensor) -> dict[str, Tensor]:
            found = self.anneal(subject.model, x, self.step_sizes(subject.model, x))
            return {"nll": -lower_bound(found.log_weights), "acceptance": found.acceptance}

        self.foresee(subject, size)
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
                f"ais: {acceptance:.0%} of the proposals were accepted: the step size does not keep up with "
                f"the temperature; more temperatures, metrics.ais.num_temperatures={4 * self.num_temperatures}"
            )
        if self.num_simulated:
            self.add_bracket(findings, self.bracket(subject, size))
        return findings

    def foresee(self, subject: Subject, size: int) -> None:
        """Say how long all of it will take, by a trial with fewer temperatures on one batch of `size` images."""
        few = AIS(
            num_chains=self.num_chains,
            num_temperatures=max(2, self.num_temperatures // SHARE),
            num_leapfrog_steps=self.num_leapfrog_steps,
            limit=self.limit,
            num_simulated=0,
        )
        images, pilots = len(spread(len(subject.images), self.limit)), max(1, self.num_chains // CHAINS_PER_PILOT)
        # A simulated image is annealed twice, forth and back, with step sizes that were found once.
        simulated = self.num_simulated * (2 * self.num_chains + pilots) / (self.num_chains + pilots)
        times = self.num_temperatures / few.num_temperatures * (1 + simulated / images)
        subject.foresee_batches(
            "ais",
            lambda x: few.anneal(subject.model, x, few.step_sizes(subject.model, x)),
            times,
            self.limit,
            size,
        )

    def add_bracket(self, findings: Findings, bounds: Tensor) -> None:
        """Both bounds of simulated images, (N, 2), and what they say."""
        findings.values["ais_simulated_images"] = len(bounds)
        if len(bounds) < self.num_simulated:
            findings.warnings.append(
                f"ais: {self.num_simulated - len(bounds)} of {self.num_simulated} simulated images were left out of "
                "ais_gap: pixels at the edge of the support have no finite density"
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
                f"ais: on simulated images the bounds are {gap:.2f} nats apart, so ais_nll may be off by as much; "
                f"more temperatures, metrics.ais.num_temperatures={4 * self.num_temperatures}"
            )

    def bracket(self, subject: Subject, size: int) -> Tensor:
        """A lower and an upper bound of log p(x), (N, 2), of images that the model makes; processes take turns."""
        counts = [len(part) for part in torch.arange(self.num_simulated).split(size)]
        processes, found = subject.processes, []
        for number in range(processes.rank, len(counts), processes.count):
            with subject.random_state("ais, simulated", number):
                found.append(self.bounds(subject.model, counts[number]).cpu())
            subject.watch("ais, simulated", min(number + processes.count, len(counts)), len(counts))
        return torch.cat(processes.join(found, len(counts)))

    def bounds(self, model: VAE, count: int) -> Tensor:
        """Both bounds of `count` simulated images, (N, 2)."""
        z, x = simulate(model, count)
        if not len(x):
            return torch.empty(0, 2, dtype=torch.float64)
        step_sizes = self.step_sizes(model, x)
        lower = lower_bound(self.anneal(model, x, step_sizes).log_weights)
        upper = upper_bound(self.anneal(model, x, step_sizes, exact=z).log_weights)
        return torch.stack([lower, upper], dim=1)

    def step_sizes(self, model: VAE, x: Tensor) -> Tensor:
        """From chains of their own."""
        chains = max(1, self.num_chains // CHAINS_PER_PILOT)
        return adapt_step_sizes(model, x, self.betas, num_chains=chains, num_leapfrog_steps=self.num_leapfrog_steps)

    def anneal(self, model: VAE, x: Tensor, step_sizes: Tensor, exact: Tensor | None = None) -> Annealed:
        """All chains of images x."""
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
    """Refuse models that cannot be annealed.

    Raises:
        NoMeaning: if p(z) has no density, or p(x|z) no gradient with respect to z, as of classes.
    """
    require_vectors(subject, "ais", "which no gradient leads from one to another; use metrics=[nll] or [elbo]")
    model, x = subject.model, subject.images[torch.arange(1)].to(subject.device)
    with torch.enable_grad():
        z = x.new_zeros(1, 1, model.latent_dim).requires_grad_()
        try:
            model.prior(model.encode).log_prob(z)
        except NotImplementedError as error:
            raise NoMeaning("ais: p(z) has no density to anneal from; metrics=[nll] needs it too") from error
        if not model.decode(z).log_prob(x).requires_grad:
            raise NoMeaning(
                "ais: p(x|z) has no gradient with respect to z, which its proposals follow; use metrics=[nll]"
            )
