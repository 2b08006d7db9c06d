"""A posterior that rounds vectors to the nearest entries of a codebook.

Shapes: S samples, B batch, N vectors of D dimensions, K entries of the codebook, C h w features if they are an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from nelbo.distributions import Quantized
from nelbo.errors import ConfigError, integer, number
from nelbo.heads.compat import join_processes, replace_dead_entries_with, sample_vectors
from nelbo.heads.posterior import Posterior
from nelbo.nets import Projection


class VectorQuantizedPosterior(Posterior):
    """q(z|x), a point mass on the codebook entries nearest to vectors of x (van den Oord et al. 2017, eqs. 1-2).

    Features (C, h, w) give one vector at each of N = h w positions; flat features, as of a fully connected encoder,
    give one vector. In training, the entries follow the vectors by exponential moving averages (van den Oord et al.
    2017, appendix A.1). An entry whose moving average of vectors per batch is less than `dead_below` is dead, and is
    replaced by a vector of the batch. Initially all entries are dead, so the codebook starts from the first batch.

    Args:
        feature_shape: shape of the encoder's features.
        latent_dim: dimension of a vector, D.
        classes: number of entries of the codebook K, at least 2.
        decay: decay of the moving averages, in [0, 1).
        dead_below: the least number of vectors per batch, a moving average, of an entry in use; above 0.

    Raises:
        ConfigError: if a number is out of range.

    Example:
        >>> posterior = VectorQuantizedPosterior((16, 4, 4), 8, classes=32, decay=0.99, dead_below=0.1)
        >>> q = posterior(torch.randn(5, 16, 4, 4))
        >>> z = q.sample((3,))
        >>> z.shape, posterior.embed(z, q).shape
        (torch.Size([3, 5, 16, 32]), torch.Size([3, 5, 8, 4, 4]))
    """

    def __init__(
        self, feature_shape: Sequence[int], latent_dim: int, *, classes: int, decay: float, dead_below: float
    ) -> None:
        super().__init__()
        # Imported here because it takes two seconds, which only models with a codebook need to spend.
        from vector_quantize_pytorch import VectorQuantize

        self.classes = integer("classes", classes, minimum=2)
        if number("decay", decay, minimum=0) >= 1:
            raise ConfigError("decay", decay, "must be below 1, at which the codebook would never change")
        self.grid = tuple(feature_shape[1:])
        self.project = Projection(feature_shape, (latent_dim, *self.grid))
        self.quantizer = VectorQuantize(
            dim=latent_dim,
            codebook_size=classes,
            decay=decay,
            threshold_ema_dead_code=number("dead_below", dead_below, positive=True),
            # `Quantized` defines the gradient, in `forward` from detached vectors, and the commitment term.
            commitment_weight=0.0,
            rotation_trick=False,
            sync_codebook=False,  # see `join_processes`
        )
        replace_dead_entries_with(self.quantizer, sample_distinct)

    def event_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Return the shape of z, (N, K)."""
        return (math.prod(self.grid), self.classes)

    def code_shape(self, latent_dim: int) -> tuple[int, ...]:
        """Return the shape of the input of the decoder, (D, h, w) or (D,)."""
        return (latent_dim, *self.grid)

    def embed(self, z: Tensor, q: Distribution | None = None) -> Tensor:
        """Return the codebook entries of z, (..., D, h, w) or (..., D).

        Args:
            z: one-hot codes, (..., N, K).
            q: the posterior that z was sampled from, in training: its entries are those before the codebook was
                updated, and have a gradient.
        """
        if isinstance(q, Quantized):
            vectors = q.straight_through.expand(*z.shape[:-1], -1)
        else:
            with torch.autocast(z.device.type, enabled=False):
                vectors = z @ self.quantizer.codebook
        return vectors.mT.unflatten(-1, self.grid) if self.grid else vectors.squeeze(-2)

    def forward(self, features: Tensor) -> Quantized:
        """Return q(z|x)."""
        vectors = self.project(features)
        vectors = vectors.flatten(2).mT if self.grid else vectors.unsqueeze(1)
        if self.training:
            join_processes(self.quantizer)
        with torch.autocast(vectors.device.type, enabled=False):  # distances need the precision of float32
            quantized, chosen, _ = self.quantizer(vectors.detach())
        code = functional.one_hot(chosen, self.classes).to(vectors.dtype)
        return Quantized(code, vectors, quantized)


def sample_distinct(vectors: Tensor, number: int) -> Tensor:
    """Return a random sample of the distinct vectors of each process.

    Many vectors of a batch are equal: half of the positions of MNIST are empty. If several entries were copies of one
    vector, the nearest of them, and with it the code of the vector, would change from step to step.

    Args:
        vectors: (1, M, D).
        number: n, the number of vectors to return. If there are fewer distinct ones, some are returned several times;
            later batches replace the copies that no vector is nearest to.

    Returns:
        The sample, (1, n, D).
    """
    return sample_vectors(vectors.squeeze(0).unique(dim=0).unsqueeze(0), number)
