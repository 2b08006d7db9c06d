"""Private interfaces of vector_quantize_pytorch that the vector-quantized posterior uses.

The package takes two seconds to import, so it is imported when a codebook is built, not together with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, distributed

from nelbo.distributions import one_hot
from nelbo.numerics.collectives import several_processes


def codebook(quantizer: Any) -> Any:
    """Return the module with the state of a `VectorQuantize`: `embed`, `cluster_size` and `embed_avg`."""
    return quantizer._codebook


def replace_dead_entries_with(quantizer: Any, sample: Callable[[Tensor, int], Tensor]) -> None:
    """Set the function that samples the vectors that replace dead entries, and declare all entries dead.

    Args:
        quantizer: a new `VectorQuantize`. Its random initial entries are discarded with the first batch.
        sample: a function from vectors (1, M, D) and a number n to n of them, (1, n, D).
    """
    state = codebook(quantizer)
    state.replace_sample_fn = sample
    state.cluster_size.zero_()
    state.embed_avg.zero_()


def read_nothing(quantizer: Any) -> None:
    """Have a `VectorQuantize` choose the nearest entries without reading values.

    It would read whether k-means is still to be done, which is not used, and call torch's `one_hot`, which reads.

    Args:
        quantizer: a `VectorQuantize` that chooses the nearest entry, without temperature and k-means.
    """
    state = codebook(quantizer)
    state.init_embed_, state.gumbel_sample = _no_kmeans, _nearest


def _no_kmeans(data: Tensor, mask: Tensor | None = None) -> None:
    """Do nothing."""


def _nearest(negative_distances: Tensor, **unused: object) -> tuple[Tensor, Tensor]:
    """Return the indices of the nearest entries, (..., M), and the same one-hot, (..., M, K)."""
    chosen = negative_distances.argmax(-1)
    return chosen, one_hot(chosen, negative_distances.shape[-1], negative_distances)


def let_library_replace(quantizer: Any, below: float | None) -> None:
    """Set whether the library replaces dead entries, for which it reads how many there are.

    Args:
        quantizer: a `VectorQuantize`.
        below: the moving average of vectors per batch below which an entry is dead; None for no replacement.
    """
    state = codebook(quantizer)
    state.has_dead_code_replacement = below is not None
    state.threshold_ema_dead_code = below or 0


def join_processes(quantizer: Any) -> None:
    """Let the codebook follow the vectors of all training processes.

    `VectorQuantize` looks for other processes in its constructor, which may run before they are connected.
    """
    if several_processes():
        codebook(quantizer).all_reduce_fn = distributed.all_reduce


def sample_vectors(vectors: Tensor, number: int) -> Tensor:
    """Return random vectors of all training processes.

    Args:
        vectors: those of this process, (1, M, D).
        number: n, the number of vectors to return. If there are fewer, some are returned several times.

    Returns:
        The sample, (1, n, D), the same in every process.
    """
    from vector_quantize_pytorch.vector_quantize_pytorch import batched_sample_vectors, sample_vectors_distributed

    sample = sample_vectors_distributed if several_processes() else batched_sample_vectors
    sampled: Tensor = sample(vectors, number)
    return sampled
