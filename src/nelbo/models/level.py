"""A level of a hierarchy below its top: z given the levels above and, in inference, x.

Shapes: S Monte Carlo samples, B batch, C h w a map of latents or D a vector, W the width of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nelbo.distributions import DiagonalNormal
from nelbo.heads.bounds import positive_scale
from nelbo.nets.base import over_leading


class Level(nn.Module):
    """z_l of a top-down hierarchy: p(z_l|z_above), q(z_l|z_above, x), and how z_l enters the stream.

    The stream holds what the levels above say. Two heads make the normal distributions p, from the stream, and q, from
    the stream and the encoder's features (Sonderby et al. 2016; Child 2021, section 3.1). The prior's head also makes
    features that are added to the stream with z. A block then computes on.

    All modules map (M, channels, ...) to (M, channels, ...), where z, or the stream, is a vector (channels,) or a map
    (channels, h, w).

    Args:
        event: shape of z, (D,) or (C, h, w).
        stream: shape of the stream at this level, (W,) or (W, h, w).
        enter: maps the stream of the level above to `stream`: the identity, or upsampling.
        prior: maps the stream to 2 C + W channels: location, raw scale, and features for the stream.
        posterior: maps the stream and the encoder's features, concatenated, to 2 C channels.
        merge: maps z to W channels.
        block: maps the stream to the stream.
        residual: whether q is relative to p, with location mu_p + d and scale sigma_p s (Vahdat & Kautz 2020, eq. 2).
        checkpoint_activations: whether activations are computed again in the backward pass instead of stored.
    """

    def __init__(
        self,
        event: Sequence[int],
        stream: Sequence[int],
        *,
        enter: nn.Module,
        prior: nn.Module,
        posterior: nn.Module,
        merge: nn.Module,
        block: nn.Module,
        residual: bool,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.event, self.stream = tuple(event), tuple(stream)
        self.enter, self.prior, self.posterior, self.merge, self.block = enter, prior, posterior, merge, block
        self.residual, self.checkpoint_activations = residual, checkpoint_activations

    def begin(self, stream: Tensor) -> Tensor:
        """Return the stream of this level, (S, B, *stream), from that of the level above."""
        return over_leading(self.enter, stream, len(self.stream))

    def prior_of(self, stream: Tensor) -> tuple[DiagonalNormal, Tensor]:
        """Return p(z|above), batch shape (S, B), and features for the stream, (S, B, *stream)."""
        channels = self.event[0]
        output = self._run(self.prior, stream)
        loc, raw, features = output.split([channels, channels, self.stream[0]], dim=-len(self.event))
        return self._normal(_full(loc), positive_scale(_full(raw))), features

    def posterior_of(self, stream: Tensor, features: Tensor, p: DiagonalNormal) -> DiagonalNormal:
        """Return q(z|above, x), batch shape (S, B).

        Args:
            stream: (S, B, *stream).
            features: the encoder's features of x at this level, (B, F, ...).
            p: p(z|above).
        """
        leading = stream.shape[: -len(self.stream)]
        features = features.to(stream.dtype).expand(*leading, *features.shape[1:])
        # torch.cat keeps the memory format channels_last of four dimensions only; activations are slow in a mixed one.
        joined = torch.cat([part.reshape(-1, *part.shape[len(leading) :]) for part in (stream, features)], dim=1)
        output = self._run(self.posterior, joined)
        loc, raw = map(_full, output.reshape(*leading, *output.shape[1:]).chunk(2, dim=-len(self.event)))
        scale = positive_scale(raw)
        return self._normal(p.loc + loc, p.scale * scale) if self.residual else self._normal(loc, scale)

    def end(self, stream: Tensor, features: Tensor, z: Tensor) -> Tensor:
        """Return the stream for the level below, (S, B, *stream).

        Args:
            stream: (S, B, *stream).
            features: those of `prior_of`.
            z: (S, B, *event).
        """
        return self._run(self.block, stream + features + over_leading(self.merge, z, len(self.event)))

    def _normal(self, loc: Tensor, scale: Tensor) -> DiagonalNormal:
        return DiagonalNormal(loc, scale, event_dimensions=len(self.event))

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        def run(x: Tensor) -> Tensor:
            return over_leading(module, x, len(self.stream))

        if self.checkpoint_activations and torch.is_grad_enabled():
            y: Tensor = checkpoint(run, x, use_reentrant=False)
            return y
        return run(x)


def _full(parameter: Tensor) -> Tensor:
    """Return parameters of a distribution in float32 at least: log-probabilities and KLs need its precision."""
    return parameter.float() if parameter.dtype in (torch.bfloat16, torch.float16) else parameter
