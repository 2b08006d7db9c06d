"""Models of data with missing entries as measures see them: each batch with its mask.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Distribution

from nelbo.distributions.columns import OBSERVED
from nelbo.evaluation.batch_model import BatchModel
from nelbo.evaluation.findings import NotApplicable
from nelbo.models import NO_CONTEXT, Context, Inference, Model


class MaskedModel(BatchModel):
    """A model that is given which entries of x were observed, bound to the masks of the batch that a measure is given.

    Outside of a batch it generates as the model itself does, and encodes nothing, because it would take missing entries
    for observed ones.

    Args:
        model: a model that takes masks from the data.
    """

    def bound(self, count: int, context: Context) -> Context:
        """Return the whole context of a batch, or that of its first row alone; see `BoundModel.bound`."""
        if count != 1:
            return super().bound(count, context)
        return {**context, **{name: value[:1] for name, value in self.setting.items()}}

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return what inference takes from the rows of the batch; see `Model.infer`.

        Raises:
            NotApplicable: outside of `given_batch`.
        """
        if not self.setting and not context:
            raise NotApplicable("encodes examples without their masks, so that missing entries would count as observed")
        return super().infer(x, context)

    def generate(
        self, n: int, temperature: float | Sequence[float] = 1.0, context: Context = NO_CONTEXT
    ) -> Distribution:
        """Return p(x|z) for n samples z ~ p(z); see `Model.generate`."""
        return self.model.generate(n, temperature, context)


def for_measures(model: Model) -> Model:
    """Return a model as measures are given it: one that takes masks is bound to those of each batch."""
    return MaskedModel(model) if OBSERVED in model.context_names else model
