"""The gap between log p(x) and the ELBO, split into the parts of the posterior family and of the encoder.

Shapes: S samples, B batch, C H W image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nelbo.errors import at_most, number, positive_integer
from nelbo.evaluation.chunks import images_at_once, samples_at_once
from nelbo.evaluation.importance import importance
from nelbo.evaluation.likelihood import add_tail, require_density, require_vectors
from nelbo.evaluation.measure import Findings, Measure, Subject, mean_and_error
from nelbo.evaluation.refinement import fit
from nelbo.models import Inference, Model
from nelbo.numerics.precision import finest

SHARE = 50
"""A trial that estimates the duration has one fiftieth of the steps and samples."""


@torch.no_grad()
def elbo(model: Model, inference: Inference, x: Tensor, num_samples: int) -> Tensor:
    """Return the ELBO of each image, (B,), in nats, in float64; its KL is in closed form if there is one.

    Args:
        model: in eval mode.
        inference: has q of each image.
        x: images, (B, C, H, W) in [0, 1].
        num_samples: S.
    """
    chunk = max(1, samples_at_once(model, x) // len(x))
    total = finest(x.new_zeros(len(x)))
    for start in range(0, num_samples, chunk):
        trace = model.draw(x, inference, min(chunk, num_samples - start))
        count = min(chunk, num_samples - start)
        total += count * trace.over_samples(finest(trace.log_px - trace.kl))
    return total / num_samples


class Gaps(Measure):
    """log p(x) - ELBO, in nats per image, as the sum of two gaps (Cremer et al. 2018).

    `approximation_gap` is log p(x) - L[q*], where q* is the best member of the family of q(z|x) for the image: a large
    one calls for a richer posterior. `amortisation_gap` is L[q*] - L[q(z|x)], the loss of the encoder's q(z|x) relative
    to q*: a large one calls for a better encoder. Their sum, `inference_gap`, is KL(q(z|x) || p(z|x)).

    q* is optimised for each image separately. log p(x) is estimated by importance sampling from q*, which is a better
    proposal than q(z|x). (The larger of both estimates of each image would have a mean weight above p(x).) The estimate
    is a lower bound in expectation, so `approximation_gap` tends to be too small. If q* is much narrower than the
    posterior, a few weights dominate: `gaps_nll_untrusted` is the share of such images.

    Args:
        num_steps: Adam steps for each image.
        lr: initial learning rate of Adam.
        gradient_samples: samples of q for each gradient.
        num_samples: samples of q and of q* for each ELBO, and for log p(x).
        limit: largest number of images; None for all.
    """

    def __init__(
        self, *, num_steps: int, lr: float, gradient_samples: int, num_samples: int, limit: int | None
    ) -> None:
        self.num_steps = positive_integer("num_steps", num_steps)
        self.lr = number("lr", lr, positive=True)
        self.gradient_samples = positive_integer("gradient_samples", gradient_samples)
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the model has no log q(z|x), or codes of classes.
        """
        require_density(subject, "gaps")
        require_vectors(subject, "gaps", "whose samples have no gradient by which q* could be optimised")
        model = subject.model

        def measure(x: Tensor, steps: int = self.num_steps, samples: int = self.num_samples) -> dict[str, Tensor]:
            early, best = fit(model, x, num_steps=steps, lr=self.lr, gradient_samples=self.gradient_samples)
            with torch.no_grad():
                amortised = elbo(model, model.infer(x), x, samples)
            optimal = elbo(model, best, x, samples)
            likelihood = importance(model, x, samples, inference=best)
            values = {
                "approximation_gap": likelihood.log_likelihood - optimal,
                "amortisation_gap": optimal - amortised,
                "inference_gap": likelihood.log_likelihood - amortised,
                "gaps_nll": -likelihood.log_likelihood,
                "second_half": optimal - elbo(model, early, x, samples),
            }
            return values | ({} if likelihood.shape is None else {"shape": likelihood.shape})

        few = [max(1, number // SHARE) for number in (self.num_steps, self.num_samples)]
        samples, most = self.gradient_samples, subject.batch_size
        one = torch.arange(1)
        size = subject.of_batch(subject.images, one, lambda image: images_at_once(model, image, samples, most))
        subject.estimate_map_duration("gaps", lambda x: measure(x, *few), self.num_steps / few[0], self.limit, size)
        per_image = subject.map("gaps", measure, limit=self.limit, batch_size=size)
        second_half, second_half_error = mean_and_error(per_image.pop("second_half"))
        shapes = per_image.pop("shape", None)
        findings = Findings()
        for name, values in per_image.items():
            findings.add_mean(name, values)
        findings.recipe = {"gaps_steps": self.num_steps, "gaps_samples": self.num_samples}
        findings.values |= findings.recipe | {
            "gaps_images": len(per_image["inference_gap"]),
            "gaps_second_half": second_half,
        }
        if shapes is not None:
            add_tail(findings, "gaps_nll", shapes, self.num_samples)
        gap, error = mean_and_error(per_image["amortisation_gap"])
        if gap < 0:
            findings.warnings.append(
                f"gaps: q* is {-gap:.2f} nats worse than q(z|x), so its optimisation failed; try smaller steps, "
                f"metrics.gaps.lr={self.lr / 10:g}, or less noise, "
                f"metrics.gaps.gradient_samples={10 * self.gradient_samples}"
            )
        elif second_half > max(error, 2 * second_half_error):
            findings.warnings.append(
                f"gaps: q* has not converged: the second half of the steps gained {second_half:.2f} nats, more than "
                f"the standard error {error:.2f} of amortisation_gap; try metrics.gaps.num_steps={4 * self.num_steps}"
            )
        return findings
