"""Discrete codes: N categorical variables of K classes each, one-hot.

Shapes: any batch shape, event (N, K).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, constraints, register_kl

from nelbo.distributions.compat import UncheckedOneHotCategorical


def one_hot(classes: Tensor, count: int, like: Tensor) -> Tensor:
    """Return one-hot codes, (..., K).

    torch's own function reads the classes to check their range.

    Args:
        classes: indices of classes, (...), below K.
        count: K.
        like: a tensor with the type and the device of the codes.
    """
    zeros = torch.zeros((*classes.shape, count), dtype=like.dtype, device=like.device)
    return zeros.scatter_(-1, classes.unsqueeze(-1), 1)


def check_one_hot(value: Tensor) -> None:
    """Check that values are one-hot codes.

    NaN is accepted: it gives a NaN log-probability, which training reports.

    Args:
        value: codes, (..., K).

    Raises:
        ValueError: if a value is not one-hot.
    """
    total = value.sum(-1)
    if not (((value == 0) | (value == 1) | value.isnan()).all() and ((total == 1) | total.isnan()).all()):
        raise ValueError("log_prob needs one-hot codes, and relaxed samples are not one-hot")


class OneHot(UncheckedOneHotCategorical):
    """One categorical variable, event shape (K,).

    It is a class of its own so that a KL can be registered for it. NaN logits are not an error here: they give NaN
    samples and log-probabilities, which training reports.

    Args:
        logits: unnormalised log-probabilities, (..., K).
    """

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return one-hot codes, (*sample_shape, ..., K); NaN if the probabilities are NaN."""
        invalid = self.probs.isnan().any(-1)
        probs = torch.where(invalid.unsqueeze(-1), 1.0, self.probs)
        chosen = Categorical(probs=probs, validate_args=False).sample(torch.Size(sample_shape))
        code = one_hot(chosen, self.event_shape[0], self.probs)
        return torch.where(invalid.unsqueeze(-1), torch.nan, code)


@register_kl(OneHot, OneHot)  # type: ignore[untyped-decorator]
def _kl_one_hot(p: OneHot, q: OneHot) -> Tensor:
    """Return the KL, (...), in nats.

    Unlike torch's own, it stays finite if a probability of q underflows to 0.
    """
    return (p.probs * (p.logits - q.logits)).sum(-1)


class OneHots(Independent[OneHot]):
    """Independent categorical variables, P(z) = prod_n softmax(logits_n)[class of z_n], event shape (N, K).

    `log_prob` raises an error for values that are not one-hot, of which torch's would silently take the argmax.

    Args:
        logits: unnormalised log-probabilities, (..., N, K).

    Example:
        >>> p = OneHots(torch.zeros(3, 4))  # three variables of four classes
        >>> z = p.sample((5,))
        >>> z.shape, p.log_prob(z).shape
        (torch.Size([5, 3, 4]), torch.Size([5]))
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(OneHot(logits), 1, validate_args=False)

    @property
    def logits(self) -> Tensor:
        """Normalised log-probabilities of the classes, (..., N, K)."""
        logits: Tensor = self.base_dist.logits
        return logits

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> OneHots:
        """Return the same distribution with a larger batch shape."""
        return type(self)(self.logits.expand(*batch_shape, *self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(value), (...), in nats, of one-hot codes (..., N, K).

        Raises:
            ValueError: if the values are not one-hot, as relaxed samples are not.
        """
        check_one_hot(value)
        return self.log_prob_of_codes(value)

    def log_prob_of_codes(self, value: Tensor) -> Tensor:
        """Return the same for values that are known to be one-hot, or NaN, without reading them."""
        # An impossible class has log-probability -inf, so it must not be multiplied by 0. `0 * value` passes NaN on.
        return torch.where(value == 1, self.logits, 0 * value).sum((-2, -1))


class RelaxedOneHot(OneHots):
    """`OneHots` with differentiable samples, softmax((logits + Gumbel noise) / temperature) (Jang et al. 2017, eq. 2).

    KLs are those of the classes, not of the relaxed samples (Jang et al. 2017, section 3.1). `log_prob` raises an
    error: the ratio of the density of a relaxed sample to the prior probability of its class is not an importance
    weight (Maddison et al. 2017, appendix C).

    Args:
        logits: unnormalised log-probabilities, (..., N, K).
        temperature: a positive scalar.
        straight_through: whether samples are rounded to one-hot codes, with the gradient of the relaxed samples
            (Jang et al. 2017, section 2.2).

    Example:
        >>> q = RelaxedOneHot(torch.zeros(3, 4), torch.tensor(0.5), straight_through=True)
        >>> q.rsample((5,)).sum(-1).eq(1).all().item()
        True
    """

    has_rsample = True

    def __init__(self, logits: Tensor, temperature: Tensor, *, straight_through: bool) -> None:
        super().__init__(logits)
        self.temperature, self.straight_through = temperature, straight_through

    def expand(self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None) -> RelaxedOneHot:
        """Return the same distribution with a larger batch shape."""
        logits = self.logits.expand(*batch_shape, *self.event_shape)
        return RelaxedOneHot(logits, self.temperature, straight_through=self.straight_through)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return points on the probability simplex, (*sample_shape, ..., N, K)."""
        # torch.rand may return 0, so clamp to the least positive number to keep the noise finite.
        uniform = torch.rand((*sample_shape, *self.logits.shape), dtype=self.logits.dtype, device=self.logits.device)
        tiny = torch.finfo(uniform.dtype).tiny
        gumbel = -(-uniform.clamp_min(tiny).log()).clamp_min(tiny).log()
        relaxed = ((self.logits + gumbel) / self.temperature).softmax(-1)
        if not self.straight_through:
            return relaxed
        hard = one_hot(relaxed.argmax(-1), relaxed.shape[-1], relaxed)
        return hard + (relaxed - relaxed.detach())  # the difference is exactly 0, so the sum is exactly one-hot

    def log_prob(self, value: Tensor) -> Tensor:
        """Raise an error: see the class.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a relaxed sample of classes has no log q(z|x), so no importance weight")

    log_prob_of_codes = log_prob


class Quantized(Distribution):
    """A point mass on the codebook entry nearest to each vector (van den Oord et al. 2017, eq. 1), event shape (N, K).

    The code is discrete, so log q(code|x) = log 1 = 0 and -log p(x|z) - log p(z) is a negative ELBO.

    Args:
        code: the indices of the nearest entries, one-hot, (..., N, K).
        vectors: the output z_e of the encoder, (..., N, D).
        quantized: the nearest entries e of the codebook, (..., N, D).
    """

    arg_constraints = {}
    support = constraints.independent(constraints.one_hot, 1)
    has_rsample = False

    def __init__(self, code: Tensor, vectors: Tensor, quantized: Tensor) -> None:
        self.code, self.vectors, self.quantized = code, vectors, quantized
        super().__init__(code.shape[:-2], code.shape[-2:], validate_args=False)

    @property
    def commitment(self) -> Tensor:
        """|z_e - sg(e)|^2, (...): the commitment term; sg stops the gradient (van den Oord et al. 2017, eq. 3)."""
        return (self.vectors - self.quantized.detach()).square().sum((-2, -1))

    @property
    def straight_through(self) -> Tensor:
        """The nearest entries, (..., N, D), whose gradient passes unchanged to the encoder's vectors."""
        return self.quantized.detach() + (self.vectors - self.vectors.detach())

    @property
    def mean(self) -> Tensor:
        """The code, (..., N, K)."""
        return self.code

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return copies of the code, (*sample_shape, ..., N, K)."""
        return self.code.expand(*sample_shape, *self.code.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return 0 at the code and -inf elsewhere, (...), in nats."""
        same = (value == self.code).all(-1).all(-1)
        return torch.where(same, 0.0, -torch.inf).to(self.vectors.dtype)
