"""A posterior that rounds vectors to the entries of a codebook.

Shapes: S samples, B batch, N vectors of D dimensions, K entries of the codebook, C h w features that are an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, distributed
from torch.distributions import Distribution
from torch.nn import functional

from nelbo.distributions import Quantized
from nelbo.errors import ConfigError, integer, number
from nelbo.heads.posterior import Posterior
from nelbo.nets import Projection
from nelbo.numerics.collectives import several_processes


class VectorQuantizedPosterior(Posterior):
    """All of q(z|x) on the entries e nearest to what the encoder says (van den Oord et al. 2017, eqs. 1-2).

    Features (C, h, w) give a vector at each of N = h w places; flat ones, as a fully connected encoder has, give one.
    The codebook follows the vectors by exponential moving averages (there, appendix A.1), in training only. An entry
    that fewer than `dead_below` vectors choose is moved to one of the batch, and so the codebook starts at the first.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: D.
        classes: K, at least 2.
        decay: of the moving averages, at least 0 and below 1.
        dead_below: in vectors a batch, a moving average, above 0.

    Raises:
        ConfigError: for a number out of range.
    """

    def __init__(
        self, feature_shape: Sequence[int], latent_dim: int, *, classes: int, decay: float, dead_below: float
    ) -> None:
        super().__init__()
        # Not at the top of the file: it takes two seconds, for which those who have no codebook should not wait.
        from vector_quantize_pytorch import VectorQuantize

        self.classes = integer("classes", classes, minimum=2)
        if number("decay", decay, minimum=0) >= 1:
            raise ConfigError("decay", decay, "must be below 1, where the codebook would never move")
        self.grid = tuple(feature_shape[1:])
        self.project = Projection(feature_shape, (latent_dim, *self.grid))
        self.quantizer = VectorQuantize(
            dim=latent_dim,
            codebook_size=classes,
            decay=decay,
            threshold_ema_dead_code=number("dead_below", dead_below, positive=True),
            # The gradient and the commitment are those of `Quantized`.
            commitment_weight=0.0,
            rotation_trick=False,
            route_gradients_to_input=False,
            sync_codebook=False,  # see _join_processes
        )
        codebook = self.quantizer._codebook
        codebook.replace_sample_fn = sample_distinct
        # Nothing is left of the library's random start: entries are means of vectors, or dead.
        codebook.cluster_size.zero_()
        codebook.embed_avg.zero_()

    def event_shape(self, latent_dim: int) -> tuple[int, ...]:
        """(N, K)."""
        return (math.prod(self.grid), self.classes)

    def code_shape(self, latent_dim: int) -> tuple[int, ...]:
        """(D, h, w), or (D,)."""
        return (latent_dim, *self.grid)

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """The entries that z (..., N, K) chooses, (..., D, h, w) or (..., D); with q, those that it was rounded to."""
        if isinstance(q, Quantized):  # of a pass that trains: by now the codebook has moved
            vectors = q.straight_through.expand(*z.shape[:-1], -1)
        else:
            with torch.autocast(z.device.type, enabled=False):
                vectors = z @ self.quantizer.codebook
        return vectors.mT.unflatten(-1, self.grid) if self.grid else vectors.squeeze(-2)

    def forward(self, features: Tensor) -> Quantized:
        """q(z|x)."""
        vectors = self.project(features)
        vectors = vectors.flatten(2).mT if self.grid else vectors.unsqueeze(1)
        if self.training:
            self._join_processes()
        with torch.autocast(vectors.device.type, enabled=False):  # distances need the digits of float32
            quantized, chosen, _ = self.quantizer(vectors)
        code = functional.one_hot(chosen, self.classes).to(vectors.dtype)
        return Quantized(code, vectors, quantized)

    def _join_processes(self) -> None:
        """Let the codebook follow all processes; the library looks for them when it is built, which is too early."""
        codebook = self.quantizer._codebook
        if several_processes() and not codebook.use_ddp:
            codebook.use_ddp, codebook.all_reduce_fn = True, distributed.all_reduce


def sample_distinct(vectors: Tensor, number: int) -> Tensor:
    """So many of the distinct ones among the vectors (1, M, D) of each process, (1, number, D).

    Half of the places of MNIST are empty, with one vector. Copies of it would take turns at being the nearest entry, a
    code that changes its name with every step. Where there are fewer than `number` some come twice all the same, until
    the next batches replace those that nothing chooses.
    """
    from vector_quantize_pytorch.vector_quantize_pytorch import batched_sample_vectors, sample_vectors_distributed

    sample = sample_vectors_distributed if several_processes() else batched_sample_vectors
    sampled: Tensor = sample(vectors.squeeze(0).unique(dim=0).unsqueeze(0), number)
    return sampled
