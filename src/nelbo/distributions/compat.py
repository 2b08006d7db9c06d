"""Private interfaces of torch that the distributions use."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical


class UncheckedOneHotCategorical(OneHotCategorical):
    """A one-hot categorical distribution whose arguments are not validated.

    The constructor of `OneHotCategorical` validates its logits even with `validate_args=False`: it builds a
    `Categorical` with the default setting. This one sets the private attribute `_categorical` itself.

    Args:
        logits: unnormalised log-probabilities, (..., K).
    """

    def __init__(self, logits: Tensor) -> None:
        self._categorical = Categorical(logits=logits, validate_args=False)
        Distribution.__init__(self, logits.shape[:-1], logits.shape[-1:], validate_args=False)
