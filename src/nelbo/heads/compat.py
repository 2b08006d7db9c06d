"""Private interfaces of vector_quantize_pytorch that the vector-quantized posterior uses.

The package takes two seconds to import, so it is imported when a codebook is built, not together with this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, distributed

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
