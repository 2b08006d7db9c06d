"""A mixture of discretized logistics in which a channel depends on the channels before it.

Shapes: any batch shape, event (C, H, W); K components, P = C (C - 1) / 2 pairs of channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, constraints

from nelbo.distributions.discretized import DiscretizedLogistic
from nelbo.distributions.levels import LevelPixels


class DiscretizedLogisticMixture(LevelPixels):
    """P(x) = prod over pixels of sum_k w_k prod_c P(x_c; m_kc(x_<c), s_kc) (Salimans et al. 2017, eqs. 2-3).

    All channels of a pixel share one component, and m_kc(x_<c) = loc_kc + sum_{j<c} a_kcj (x_j - 1/2). Pixels are in
    [0, 1] here and in [-1, 1] in the paper; because of the shift by 1/2 the coefficients a are the same.

    Args:
        logits: unnormalised log w, (..., K, H, W).
        loc: (..., C, K, H, W), in pixel units.
        scale: (..., C, K, H, W), in pixel units.
        coefficients: a, (..., P, K, H, W), for the pairs (c, j) in the order (1, 0), (2, 0), (2, 1), (3, 0) and so on.
        levels: the number of levels L, at least 2.
    """

    arg_constraints = {"logits": constraints.real, "loc": constraints.real, "scale": constraints.positive}

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, coefficients: Tensor, levels: int) -> None:
        self.logits, self.loc, self.scale, self.coefficients = logits, loc, scale, coefficients
        event_shape = torch.Size((loc.shape[-4], *loc.shape[-2:]))
        super().__init__(levels, logits.shape[:-3], event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-probability of images, (...), in nats."""
        levels = [level.unsqueeze(-3) for level in self.nearest(value).unbind(-3)]  # shared by all components
        log_p = self.logits.log_softmax(-3)
        for channel, (loc, scale, coefficients) in enumerate(self._channels()):
            location = self._location(loc, coefficients, levels[:channel])
            log_p = log_p + DiscretizedLogistic.log_mass(levels[channel], self.top, location, scale)
        # Subtract the largest first: the gradients of logsumexp lose precision for log-probabilities in the thousands.
        largest = log_p.detach().amax(-3, keepdim=True)
        return ((log_p - largest).logsumexp(-3) + largest.squeeze(-3)).flatten(-2).sum(-1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Return images, (*sample_shape, ..., C, H, W): for each pixel a component, then its channels in order."""
        weights = Categorical(logits=self.logits.movedim(-3, -1), validate_args=False)
        component = weights.sample(torch.Size(sample_shape)).unsqueeze(-3)
        levels, leading = list[Tensor](), (None,) * len(sample_shape)
        for channel in self._channels():
            loc, scale, *coefficients = (
                torch.take_along_dim(part[leading], component, dim=-3) for part in (*channel[:2], *channel[2])
            )
            noise = DiscretizedLogistic.noise(tuple(loc.shape), loc)
            levels.append(self.nearest((self._location(loc, coefficients, levels) + scale * noise) / self.top))
        return torch.cat(levels, dim=-3) / self.top

    @property
    def mean(self) -> Tensor:
        """The mean image, (..., C, H, W): exact for the first channel, approximate for the others.

        Within each component, the mean of a channel is computed at the means of the channels before it. That would be
        exact if the mean level were linear in m_kc, which it is not near the ends of the range or for scales smaller
        than the distance between levels.
        """
        weights, means = self.logits.softmax(-3), list[Tensor]()
        for loc, scale, coefficients in self._channels():
            means.append(DiscretizedLogistic.mean_level(self.top, self._location(loc, coefficients, means), scale))
        return torch.stack([(weights * mean).sum(-3) for mean in means], dim=-3) / self.top

    def expand(
        self, batch_shape: torch.Size | list[int] | tuple[int, ...], _instance: object = None
    ) -> DiscretizedLogisticMixture:
        """Return the same distribution with a larger batch shape."""
        logits = self.logits.expand(*batch_shape, *self.logits.shape[-3:])
        loc, scale, coefficients = (
            part.expand(*batch_shape, *part.shape[-4:]) for part in (self.loc, self.scale, self.coefficients)
        )
        return DiscretizedLogisticMixture(logits, loc, scale, coefficients, self.levels)

    def _channels(self) -> Iterator[tuple[Tensor, Tensor, Sequence[Tensor]]]:
        """Yield loc and scale, in units of levels, and the coefficients of each channel; each tensor (..., K, H, W)."""
        coefficients = self.coefficients.unbind(-4)
        parts = zip((self.loc * self.top).unbind(-4), (self.scale * self.top).unbind(-4), strict=True)
        for channel, (loc, scale) in enumerate(parts):
            first = channel * (channel - 1) // 2
            yield loc, scale, coefficients[first : first + channel]

    def _location(self, loc: Tensor, coefficients: Sequence[Tensor], earlier: Sequence[Tensor]) -> Tensor:
        """Return m_kc(x_<c), in units of levels, from the levels of the channels before c."""
        for coefficient, level in zip(coefficients, earlier, strict=True):
            loc = torch.addcmul(loc, coefficient, level - self.top / 2)
        return loc
