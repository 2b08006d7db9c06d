"""Discrete codes: N variables with one of K classes each, one-hot.

Shapes: any batch shape, event (N, K).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, OneHotCategorical, constraints, register_kl
from torch.nn import functional


def refuse_relaxed(value: Tensor) -> None:
    """Refuse values (..., K) that are not one-hot; those that are no numbers are the guard's to name.

    Raises:
        ValueError: for them.
    """
    total = value.sum(-1)
    if not (((value == 0) | (value == 1) | value.isnan()).all() and ((total == 1) | total.isnan()).all()):
        raise ValueError("the probability of classes is that of one-hot codes, and these are relaxed ones")


class OneHot(OneHotCategorical):
    """One variable, (..., K); a class of its own so that a KL can be registered against it.

    Nothing is validated: torch's own checks its logits whatever it is told, and its samples stop at a NaN.

    Args:
        logits: (..., K).
    """

    def __init__(self, logits: Tensor) -> None:
        self._categorical = Categorical(logits=logits, validate_args=False)
        Distribution.__init__(self, logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """One-hot codes, (*sample_shape, ..., K); NaN where the probabilities are."""
        lost = self.probs.isnan().any(-1)
        probs = torch.where(lost.unsqueeze(-1), 1.0, self.probs)
        chosen = Categorical(probs=probs, validate_args=False).sample(torch.Size(sample_shape))
        code = functional.one_hot(chosen, self.event_shape[0]).to(self.probs)
        return torch.where(lost.unsqueeze(-1), torch.nan, code)


@register_kl(OneHot, OneHot)  # type: ignore[untyped-decorator]
def _kl_one_hot(p: OneHot, q: OneHot) -> Tensor:
    """In nats; torch's is infinite where a probability of q is only too small for a float."""
    return (p.probs * (p.logits - q.logits)).sum(-1)


class OneHots(Independent[OneHot]):
    """Independent categorical variables: P(z) = prod over n of softmax(logits_n)[class of z_n].

    torch's own `log_prob` takes the argmax of what is no one-hot code, without a word; this one refuses it.

    Args:
        logits: (..., N, K).
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(OneHot(logits), 1, validate_args=False)

    @property
    def logits(self) -> Tensor:
        """Log-probabilities of the classes, (..., N, K)."""
        logits: Tensor = self.base_dist.logits
        return logits

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> OneHots:
        """The same distribution with a larger batch shape."""
        return type(self)(self.logits.expand(*batch_shape, *self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log P(value), (...), in nats, of one-hot codes (..., N, K).

        Raises:
            ValueError: for values that are not one-hot, such as relaxed samples.
        """
        refuse_relaxed(value)
        # A class that cannot be has log-probability -inf, and 0 times that is no number; 0 times no number is none.
        return torch.where(value == 1, self.logits, 0 * value).sum((-2, -1))


class RelaxedOneHot(OneHots):
    """Differentiable samples of `OneHots`: softmax((logits + Gumbel noise) / temperature), Jang et al. 2017, eq. 2.

    KLs are those of the classes, not of the relaxed samples (their section 3.1), so their log-density is refused: its
    ratio to the prior's probability of classes would be no importance weight (Maddison et al. 2017, appendix C).

    Args:
        logits: (..., N, K).
        temperature: above 0, scalar.
        straight_through: whether samples are rounded to one-hot codes, with the gradient of the relaxed ones
            (their section 2.2).
    """

    has_rsample = True

    def __init__(self, logits: Tensor, temperature: Tensor, *, straight_through: bool) -> None:
        super().__init__(logits)
        self.temperature, self.straight_through = temperature, straight_through

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> RelaxedOneHot:
        """The same distribution with a larger batch shape."""
        logits = self.logits.expand(*batch_shape, *self.event_shape)
        return RelaxedOneHot(logits, self.temperature, straight_through=self.straight_through)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Points of the simplex, (*sample_shape, ..., N, K)."""
        # The least positive number keeps the noise finite; rand() may be 0.
        uniform = torch.rand((*sample_shape, *self.logits.shape), dtype=self.logits.dtype, device=self.logits.device)
        tiny = torch.finfo(uniform.dtype).tiny
        gumbel = -(-uniform.clamp_min(tiny).log()).clamp_min(tiny).log()
        relaxed = ((self.logits + gumbel) / self.temperature).softmax(-1)
        if not self.straight_through:
            return relaxed
        hard = functional.one_hot(relaxed.argmax(-1), relaxed.shape[-1]).to(relaxed.dtype)
        return hard + (relaxed - relaxed.detach())  # one-hot to the last digit

    def log_prob(self, value: Tensor) -> Tensor:
        """Refused.

        Raises:
            NotImplementedError: always; see above.
        """
        raise NotImplementedError("a relaxed sample of classes has no log q(z|x), so no importance weight")


class Quantized(Distribution):
    """All mass on one code a vector: the nearest of a codebook (van den Oord et al. 2017, eq. 1).

    The code is discrete, so that this is a probability and log q(code) = 0: -log p(x|z) - log p(z) is a negative ELBO.

    Args:
        code: (..., N, K), one-hot.
        vectors: what the encoder said, (..., N, D).
        quantized: the entries of the codebook nearest to them, (..., N, D).
    """

    arg_constraints = {}
    support = constraints.independent(constraints.one_hot, 1)
    has_rsample = False

    def __init__(self, code: Tensor, vectors: Tensor, quantized: Tensor) -> None:
        self.code, self.vectors, self.quantized = code, vectors, quantized
        super().__init__(code.shape[:-2], code.shape[-2:], validate_args=False)

    @property
    def commitment(self) -> Tensor:
        """|z_e - sg(e)|^2, (...): how far the encoder is from its codes (van den Oord et al. 2017, eq. 3)."""
        return (self.vectors - self.quantized.detach()).square().sum((-2, -1))

    @property
    def straight_through(self) -> Tensor:
        """The entries, (..., N, D), with a gradient that goes to the encoder as if nothing had been rounded."""
        return self.quantized.detach() + (self.vectors - self.vectors.detach())

    @property
    def mean(self) -> Tensor:
        """The code itself."""
        return self.code

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """The code, (*sample_shape, ..., N, K)."""
        return self.code.expand(*sample_shape, *self.code.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 at the code and -inf elsewhere, (...), in nats."""
        same = (value == self.code).all(-1).all(-1)
        return torch.where(same, 0.0, -torch.inf).to(self.vectors.dtype)
