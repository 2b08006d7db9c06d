"""The private interfaces of vector_quantize_pytorch that `nelbo.heads.compat` uses exist in the installed version."""

from __future__ import annotations

from importlib.metadata import version
from unittest import mock

import pytest
import torch
import vector_quantize_pytorch.vector_quantize_pytorch as library
from torch import Tensor

from nelbo.heads import compat

PACKAGE = f"vector-quantize-pytorch {version('vector-quantize-pytorch')}"


def make_quantizer() -> library.VectorQuantize:
    """Return a quantizer with 6 entries of dimension 2, in training mode."""
    return library.VectorQuantize(
        dim=2, codebook_size=6, threshold_ema_dead_code=0.1, rotation_trick=False, sync_codebook=False
    )


def test_the_codebook_is_a_private_attribute() -> None:
    hint = f"{PACKAGE}: VectorQuantize has no _codebook, which nelbo.heads.compat reads"
    assert hasattr(make_quantizer(), "_codebook"), hint


@pytest.mark.parametrize(
    "name",
    [
        *("embed", "embed_avg", "cluster_size", "replace_sample_fn", "all_reduce_fn"),
        *("init_embed_", "gumbel_sample", "threshold_ema_dead_code"),
    ],
)
def test_the_codebook_has_the_attributes_that_nelbo_uses(name: str) -> None:
    hint = f"{PACKAGE}: VectorQuantize._codebook has no {name}, which nelbo.heads.compat uses"
    assert hasattr(compat.codebook(make_quantizer()), name), hint


@pytest.mark.parametrize("name", ["batched_sample_vectors", "sample_vectors_distributed"])
def test_the_library_has_the_functions_that_nelbo_uses(name: str) -> None:
    hint = f"{PACKAGE}: vector_quantize_pytorch.vector_quantize_pytorch has no {name}, which nelbo.heads.compat uses"
    assert hasattr(library, name), hint


def test_all_entries_of_a_new_codebook_are_replaced_by_the_given_function() -> None:
    quantizer, numbers = make_quantizer(), list[int]()

    def sample(vectors: Tensor, number: int) -> Tensor:
        numbers.append(number)
        return torch.arange(2.0 * number).reshape(1, number, 2)

    compat.replace_dead_entries_with(quantizer, sample)
    quantizer(torch.zeros(3, 4, 2))
    hint = f"{PACKAGE} does not replace dead entries by _codebook.replace_sample_fn, which nelbo.heads.compat sets"
    assert sum(numbers) >= 5, hint  # the entry nearest to the vectors is in use
    assert compat.codebook(quantizer).embed.max() > 5, hint


def test_a_codebook_joins_processes_by_the_given_reduction() -> None:
    quantizer, reduce = make_quantizer(), mock.Mock()
    with mock.patch.object(compat.distributed, "all_reduce", reduce):
        compat.join_processes(quantizer)
        quantizer(torch.randn(3, 4, 2))
        assert reduce.call_count == 0, f"{PACKAGE}: the codebook of a single process reduces"
        with mock.patch.object(compat, "several_processes", lambda: True):
            compat.join_processes(quantizer)
            quantizer(torch.randn(3, 4, 2))
    hint = f"{PACKAGE} does not sum the codebook's statistics by _codebook.all_reduce_fn, which nelbo.heads.compat sets"
    assert reduce.call_count == 2, hint  # the number of vectors of each entry, and their sum


def test_vectors_of_a_single_process_are_sampled_without_replacement() -> None:
    vectors = torch.arange(10.0).reshape(1, 5, 2)
    sample = compat.sample_vectors(vectors, 5)
    assert sample.shape == (1, 5, 2), PACKAGE
    assert torch.equal(sample[0].sort(0).values, vectors[0]), PACKAGE


def test_a_quantizer_that_reads_nothing_chooses_the_same_entries() -> None:
    own, theirs = make_quantizer(), make_quantizer()
    theirs.load_state_dict(own.state_dict())
    compat.read_nothing(own)
    vectors = torch.randn(3, 4, 2)
    torch.manual_seed(0)
    expected = theirs(vectors)
    torch.manual_seed(0)
    for one, other in zip(own(vectors), expected, strict=True):
        assert torch.equal(one, other), PACKAGE
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in own.state_dict().items()), PACKAGE


def test_the_library_replaces_dead_entries_only_if_it_is_let() -> None:
    quantizer = make_quantizer()
    for below, replaced in ((None, False), (0.1, True)):
        compat.let_library_replace(quantizer, below)
        compat.codebook(quantizer).cluster_size.zero_()
        quantizer(torch.zeros(3, 4, 2))
        sizes = compat.codebook(quantizer).cluster_size
        assert ((sizes - 0.1).abs() < 1e-6).any() == replaced, PACKAGE
