"""A posterior over classes.

Shapes: B batch, N variables of K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nelbo.distributions import OneHots, RelaxedOneHot
from nelbo.errors import boolean, integer
from nelbo.heads.posterior import Posterior
from nelbo.nets import Projection
from nelbo.schedules import Schedule

TEMPERATURE_FLOOR = 0.01
"""No temperature goes below this: the gradients of relaxed samples grow with its inverse."""


class CategoricalPosterior(Posterior):
    """Q(z|x) = prod over n of softmax(logits_n(x))[class of z_n], Jang et al. 2017, section 2; N is `latent_dim`.

    In training its samples are relaxed, so that they have a gradient; in eval mode they are one-hot, and have a
    probability.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: N.
        classes: K, at least 2.
        temperature: of the relaxed samples, at least `TEMPERATURE_FLOOR`: a number or a schedule.
        straight_through: whether samples of training are one-hot too, with the gradient of the relaxed ones.

    Raises:
        ConfigError: for a number out of range, or a `straight_through` that is not true or false.
    """

    def __init__(
        self,
        feature_shape: Sequence[int],
        latent_dim: int,
        *,
        classes: int,
        temperature: float | Schedule,
        straight_through: bool,
    ) -> None:
        super().__init__()
        self.classes = integer("classes", classes, minimum=2)
        self.register_scalar("temperature", temperature, minimum=TEMPERATURE_FLOOR)
        self.temperature: Tensor
        self.straight_through = boolean("straight_through", straight_through)
        self.project = Projection(feature_shape, (latent_dim, classes))

    def event_shape(self, latent_dim: int) -> tuple[int, ...]:
        """(N, K)."""
        return (latent_dim, self.classes)

    def forward(self, features: Tensor) -> OneHots:
        """q(z|x)."""
        logits = self.project(features)
        if not self.training:
            return OneHots(logits)
        return RelaxedOneHot(logits, self.temperature, straight_through=self.straight_through)
