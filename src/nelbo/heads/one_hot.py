"""A posterior over categorical variables.

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
"""The least temperature: the gradients of relaxed samples grow with its inverse."""


class CategoricalPosterior(Posterior):
    """q(z|x) = prod_n softmax(logits_n(x))[class of z_n] (Jang et al. 2017, section 2).

    In training mode its samples are relaxed, so that they have a gradient. In evaluation mode they are one-hot, so that
    they have a probability.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: number of variables N.
        classes: number of classes K of a variable, at least 2.
        temperature: temperature of the relaxed samples, a number or a schedule, at least `TEMPERATURE_FLOOR`.
        straight_through: whether samples are one-hot in training too, with the gradient of the relaxed samples.

    Raises:
        ConfigError: if a number is out of range, or `straight_through` is not true or false.
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
        """Return the shape of z, (N, K)."""
        return (latent_dim, self.classes)

    def forward(self, features: Tensor) -> OneHots:
        """Return q(z|x)."""
        logits = self.project(features)
        if not self.training:
            return OneHots(logits)
        return RelaxedOneHot(logits, self.temperature, straight_through=self.straight_through)
