"""A posterior that rounds vectors to the nearest entries of a codebook.

Shapes: S samples, B batch, N vectors of D dimensions, K entries of the codebook, C h w features if they are an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributions import Distribution

from nelbo.distributions import Quantized, one_hot
from nelbo.errors import ConfigError, integer, number
from nelbo.heads import compat
from nelbo.heads.posterior import Posterior
from nelbo.nets import Projection
from nelbo.numerics import devices
from nelbo.numerics.collectives import several_processes


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
        self.dead_below = number("dead_below", dead_below, positive=True)
        self.grid = tuple(feature_shape[1:])
        self.project = Projection(feature_shape, (latent_dim, *self.grid))
        self.quantizer = VectorQuantize(
            dim=latent_dim,
            codebook_size=classes,
            decay=decay,
            threshold_ema_dead_code=self.dead_below,
            # `Quantized` defines the gradient, in `forward` from detached vectors, and the commitment term.
            commitment_weight=0.0,
            rotation_trick=False,
            sync_codebook=False,  # see `join_processes`
        )
        compat.replace_dead_entries_with(self.quantizer, sample_distinct)
        compat.read_nothing(self.quantizer)

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
            compat.join_processes(self.quantizer)
        reads = devices.reads_freely(vectors.device)
        compat.let_library_replace(self.quantizer, self.dead_below if reads else None)
        with torch.autocast(vectors.device.type, enabled=False):  # distances need the precision of float32
            quantized, chosen, _ = self.quantizer(vectors.detach())
            if self.training and not reads:
                replace_dead(compat.codebook(self.quantizer), vectors.detach().flatten(0, 1), self.dead_below)
        code = one_hot(chosen, self.classes, vectors)
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
    return compat.sample_vectors(vectors.squeeze(0).unique(dim=0).unsqueeze(0), number)


@torch.no_grad()
def replace_dead(codebook: Any, vectors: Tensor, dead_below: float) -> None:
    """Replace dead entries by random distinct vectors of the batch, without reading a value.

    It does what the library does with `sample_distinct`, whose results have sizes that depend on the values. If there
    are more dead entries than distinct vectors, the vectors are used in turn. Several processes replace the entries in
    turn, and all of them get the same codebook.

    Args:
        codebook: the module with `embed` and `embed_avg`, (1, K, D), and `cluster_size`, (1, K).
        vectors: those of this process, (M, D).
        dead_below: the least moving average of vectors per batch of an entry in use.
    """
    dead = codebook.cluster_size[0] < dead_below
    turn = dead.cumsum(0) - 1  # the number of dead entries before this one
    vectors = vectors.to(codebook.embed.dtype)
    # Equal vectors are neighbours in the order of their products with a random vector.
    vectors = vectors[(vectors * torch.randn_like(vectors[0])).sum(-1).argsort()]
    is_copy = torch.zeros_like(vectors[:, 0], dtype=torch.bool)
    is_copy[1:] = (vectors[1:] == vectors[:-1]).all(-1)
    order = (torch.rand_like(vectors[:, 0]) + 2 * is_copy).argsort()  # the distinct ones first, in random order
    distinct = len(vectors) - is_copy.sum()
    several = several_processes()
    processes, rank = (distributed.get_world_size(), distributed.get_rank()) if several else (1, 0)
    entries = vectors[order[turn.div(processes, rounding_mode="floor").clamp(min=0) % distinct]]
    if several:
        entries = torch.where((turn % processes == rank).unsqueeze(-1), entries, 0)
        distributed.all_reduce(entries)
    where = dead.unsqueeze(-1)
    codebook.embed[0] = torch.where(where, entries, codebook.embed[0])
    codebook.embed_avg[0] = torch.where(where, entries * dead_below, codebook.embed_avg[0])
    codebook.cluster_size[0] = torch.where(dead, dead_below, codebook.cluster_size[0])
