"""Models that measures give the context of each batch.

Shapes: B batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nelbo.models import BoundModel, Context, Model


class BatchModel(BoundModel):
    """A model that is bound to the context of the batch that a measure is given, and to nothing outside of it.

    Args:
        model: a model that takes a context from the data.
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model, {}, each=True)

    @contextlib.contextmanager
    def given_batch(self, context: Context) -> Iterator[None]:
        """Within it, the model is that of a batch.

        Args:
            context: that of the examples of the batch, (B, ...) each.
        """
        outer, self.setting = self.setting, dict(context)
        try:
            yield
        finally:
            self.setting = outer
