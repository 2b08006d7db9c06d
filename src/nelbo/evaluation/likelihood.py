"""The test log-likelihood, with what is needed to believe it.

Shapes: N images, K or S importance samples, B batch.
"""

from __future__ import annotations

from torch import Tensor

from nelbo.errors import at_most, boolean, positive_integer
from nelbo.evaluation.importance import importance
from nelbo.evaluation.measure import Findings, Measure, NoMeaning, Subject, mean_and_error
from nelbo.metrics import bits_per_dim, is_discrete

COUNTS = (1, 10, 100, 1000, 5000)
FEW_EFFECTIVE_SAMPLES = 10


class NLL(Measure):
    """-log p(x) by importance sampling (Burda et al. 2016, eq. 8), in nats an image: an upper bound that falls with S.

    `nll_se` is the standard error over images; `nll_sampling_se` the part that the S samples of each image have in it.
    `nll_at_K` are the bounds from the first K samples. The bias of the bound falls as 1/S, so half of the samples have
    twice of it, and what the second half gained, `nll_bias`, estimates what is left (Nowozin 2018): where that is
    more than the standard error, the number is not converged, and that is said.

    Args:
        num_samples: S.
        limit: no more than so many images; None for all.
        log_weights: whether to return log w of each image and sample, (N, S).
    """

    def __init__(self, *, num_samples: int, limit: int | None, log_weights: bool) -> None:
        self.num_samples = positive_integer("num_samples", num_samples)
        self.limit = at_most("limit", limit)
        self.log_weights = boolean("log_weights", log_weights)

    def __call__(self, subject: Subject) -> Findings:
        """Measure.

        Raises:
            NoMeaning: if the model has no log q(z|x).
        """
        require_density(subject, "nll")
        half = max(1, self.num_samples // 2)
        counts = [count for count in COUNTS if count < self.num_samples]

        def measure(x: Tensor) -> dict[str, Tensor]:
            found = importance(
                subject.model, x, self.num_samples, counts=[*counts, half], keep_log_weights=self.log_weights
            )
            values = {f"nll_at_{count}": -found.curve[count] for count in counts}
            values |= {"nll": -found.log_likelihood, "half": -found.curve[half], "ess": found.effective_samples}
            return values | ({} if found.log_weights is None else {"log_weights": found.log_weights.T})

        per_image = subject.map("nll", measure, limit=self.limit)
        findings = Findings()
        findings.add_mean("nll", per_image["nll"])
        ess = per_image["ess"]
        # Delta method: the relative variance of a mean of S weights is (1 / ESS - 1 / S).
        variance = (1 / ess - 1 / self.num_samples).clamp(min=0)
        bias, bias_error = mean_and_error(per_image["half"] - per_image["nll"])
        findings.values |= {
            "nll_samples": self.num_samples,
            "nll_sampling_se": (variance.sum().sqrt() / len(ess)).item(),
            "nll_bias": bias,
            "nll_images": len(ess),
            "ess": ess.mean().item(),
            "ess_median": ess.median().item(),
            "ess_min": ess.min().item(),
            **{key: values.mean().item() for key, values in per_image.items() if key.startswith("nll_at_")},
        }
        add_bits_per_dim(findings, "nll_bits_per_dim", subject, per_image["nll"])
        findings.per_image["ess"] = ess
        if self.log_weights:
            findings.per_image["log_weights"] = per_image["log_weights"]
        findings.recipe["nll_samples"] = self.num_samples
        error = findings.values["nll_se"]
        assert isinstance(error, float)
        if bias > max(error, 2 * bias_error):
            findings.warnings.append(
                f"nll has not converged: the second half of {self.num_samples} samples still gained {bias:.2f} nats, "
                f"more than its standard error of {error:.2f}: num_samples={10 * self.num_samples}, or metrics=[ais]"
            )
        if (few := int((ess < FEW_EFFECTIVE_SAMPLES).sum())) > len(ess) / 2:
            findings.warnings.append(
                f"nll: {few} of {len(ess)} images have fewer than {FEW_EFFECTIVE_SAMPLES} effective samples of "
                f"{self.num_samples}: q(z|x) is far from p(z|x), and few samples decide; metrics=[ais] brackets it"
            )
        return findings


def require_density(subject: Subject, measure: str) -> None:
    """Refuse a deterministic code.

    Raises:
        NoMeaning: if the model has no log q(z|x).
    """
    if not subject.example.has_density:
        raise NoMeaning(f"{measure}: posterior=deterministic has no log q(z|x)")


def add_bits_per_dim(findings: Findings, key: str, subject: Subject, nats: Tensor) -> None:
    """The mean of nats an image (N,) as bits a pixel and channel, where there are such."""
    discrete = is_discrete(subject.example)
    if discrete or subject.dequantized_levels:
        levels = None if discrete else subject.dequantized_levels
        findings.values[key] = bits_per_dim(nats.double().mean(), subject.model.shape, levels).item()
