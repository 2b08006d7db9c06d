"""The importance-sampled NLL and its diagnostics, and checks of models that other measures share.

Shapes: N images, K or S importance samples, B batch.
"""

from __future__ import annotations

from torch import Tensor

from nelbo.distributions import ObservedPixels, Quantized
from nelbo.distributions.columns import OBSERVED
from nelbo.errors import at_most, boolean, positive_integer
from nelbo.evaluation.importance import importance
from nelbo.evaluation.measure import Findings, Measure, NotApplicable, Subject, mean_and_error
from nelbo.evaluation.pareto import FEWEST, trusted_below
from nelbo.metrics import bits_per_dim, counts_bits, is_discrete

COUNTS = (1, 10, 100, 1000, 5000)
"""Values of K for which `nll_at_K` is reported."""

FEW_UNTRUSTED = 0.05
"""Largest share of images with a heavy tail of weights for which there is no warning."""


class NLL(Measure):
    """-log p(x) by importance sampling (Burda et al. 2016, eq. 8), in nats per image: an upper bound that falls with S.

    `nll_se` is the standard error over images, and `nll_sampling_se` the part of it that is due to the S samples of
    each image. `nll_at_K` are the bounds from the first K samples, and `nll_gain` is how far the second half of the
    samples lowered the bound. For large S the bias is proportional to 1/S, so the bound is still too large by about
    `nll_gain`; for small S by more.

    The tail of the weights shows whether S is large enough: `nll_pareto_k` is its shape, median over images, and
    `nll_untrusted` the share of images whose shape is too large for S samples (Vehtari et al. 2024). The error of the
    bound of these images is unknown.

    Args:
        num_samples: S.
        limit: largest number of images; None for all.
        log_weights: whether to return log w of each image and sample, (N, S).
    """

    def __init__(self, *, num_samples: int, limit: int | None, log_weights: bool) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)
        self.log_weights = boolean("log_weights", log_weights)

    def __call__(self, subject: Subject) -> Findings:
        """Measure the subject.

        Raises:
            NotApplicable: if the model has no log q(z|x), or q(z|x) is a single code.
        """
        require_density(subject, "nll")
        half = self.num_samples // 2
        counts = [count for count in COUNTS if count < self.num_samples]

        def measure(x: Tensor) -> dict[str, Tensor]:
            points = [*counts, *([half] if half else [])]
            result = importance(subject.model, x, self.num_samples, counts=points, keep_log_weights=self.log_weights)
            values = {f"nll_at_{count}": -result.curve[count] for count in counts}
            values |= {"nll": -result.log_likelihood, "ess": result.effective_samples}
            values |= {"nll_gain": result.log_likelihood - result.curve[half]} if half else {}
            values |= {"nll_pareto_k": result.shape} if result.shape is not None else {}
            return values | ({"log_weights": result.log_weights.T} if result.log_weights is not None else {})

        per_image = subject.map("nll", measure, limit=self.limit)
        findings = Findings(recipe={"nll_samples": self.num_samples})
        findings.add_mean("nll", per_image["nll"])
        ess = per_image["ess"]
        # By the delta method: the relative variance of a mean of S weights is 1 / ESS - 1 / S.
        variance = (1 / ess - 1 / self.num_samples).clamp(min=0)
        findings.values |= {
            "nll_samples": self.num_samples,
            "nll_images": len(ess),
            "nll_sampling_se": (variance.sum().sqrt() / len(ess)).item(),
            "ess": ess.mean().item(),
            "ess_median": ess.median().item(),
            "ess_min": ess.min().item(),
            **{key: values.mean().item() for key, values in per_image.items() if key.startswith("nll_at_")},
        }
        add_bits_per_dim(findings, "nll_bits_per_dim", subject, per_image["nll"])
        if half:
            self.add_gain(findings, per_image["nll_gain"])
        if "nll_pareto_k" in per_image:
            add_tail(findings, "nll", per_image["nll_pareto_k"], self.num_samples)
        else:
            findings.warnings.append(
                f"nll: {self.num_samples} samples are too few to judge the weights' tail; try num_samples={10 * FEWEST}"
            )
        kept = ("ess", "nll_pareto_k", *(["log_weights"] if self.log_weights else []))
        findings.per_image |= {key: per_image[key] for key in kept if key in per_image}
        return findings

    def add_gain(self, findings: Findings, gains: Tensor) -> None:
        """Add how far the second half of the samples lowered the bound, (N,), and a warning if that is too much."""
        gain, gain_error = mean_and_error(gains)
        findings.values["nll_gain"] = gain
        if len(gains) == 1:  # there is no standard error to compare it with
            return
        error = findings.values["nll_se"]
        assert isinstance(error, float)
        if gain > max(error, 2 * gain_error):
            findings.warnings.append(
                f"nll has not converged: the second half of {self.num_samples} samples lowered it by {gain:.2f} nats, "
                f"more than its standard error of {error:.2f}; try num_samples={10 * self.num_samples} or metrics=[ais]"
            )


def add_tail(findings: Findings, name: str, shapes: Tensor, num_samples: int) -> None:
    """Add the median shape of the weights' tails (N,), the share of heavy tails, and a warning if that is too large."""
    untrusted = (shapes > trusted_below(num_samples)).double().mean().item()
    findings.values |= {f"{name}_pareto_k": shapes.median().item(), f"{name}_untrusted": untrusted}
    if untrusted > FEW_UNTRUSTED:
        findings.warnings.append(
            f"{name}: for {untrusted:.0%} of images a few of {num_samples} weights dominate (Pareto k above "
            f"{trusted_below(num_samples):.2f}), so it may be off by more than its errors; metrics=[ais] needs no q"
        )


def require_density(subject: Subject, measure: str) -> None:
    """Raise an error if q(z|x) has no density.

    Raises:
        NotApplicable: if the model has no log q(z|x), or q(z|x) is a single code of a codebook.
    """
    if not subject.example.has_density:
        raise NotApplicable(f"{measure}: posterior=deterministic has no log q(z|x)")
    if any(isinstance(latent.q, Quantized) for latent in subject.example.latents):
        raise NotApplicable(f"{measure}: q(z|x) of a codebook is a single code, without a density; use metrics=[elbo]")


def require_vectors(subject: Subject, measure: str, reason: str) -> None:
    """Raise an error if codes are one-hot.

    Args:
        subject: provides the model.
        measure: name of the measure, for the message.
        reason: why the measure needs vectors; the end of the message.

    Raises:
        NotApplicable: if codes are one-hot.
    """
    if not all(latent.is_continuous for latent in subject.example.latents):
        raise NotApplicable(f"{measure}: z are codes of classes, {reason}")


def require_whole_images(subject: Subject, measure: str) -> None:
    """Raise an error if some pixels of the images are unknown.

    Raises:
        NotApplicable: if they are.
    """
    if OBSERVED in subject.model.context_names and isinstance(subject.example.px, ObservedPixels):
        raise NotApplicable(f"{measure}: compares whole images, and of these some pixels are unknown")


def add_bits_per_dim(findings: Findings, key: str, subject: Subject, nats: Tensor) -> None:
    """Add the mean of nats per image (N,) in bits per dimension, if pixels are discrete or dequantised."""
    if counts_bits(subject.example, subject.dequantized_levels):
        levels = None if is_discrete(subject.example) else subject.dequantized_levels
        findings.values[key] = bits_per_dim(nats.double().mean(), subject.model.shape, levels).item()
