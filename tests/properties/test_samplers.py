"""Batches contain every example once, for any number of examples, batch size and number of processes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nelbo.data.loader import Batches
from tests.helpers.properties import tried


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, int, int]:
    """Draw N, B and the number of processes, such that each process has an example in each batch."""
    processes = draw(st.integers(1, 8))
    size = draw(st.integers(1 if processes == 1 else 2, 40))
    return draw(st.integers(processes, 400)), size, processes


ANY = {
    "world": worlds(),
    "shuffle": st.booleans(),
    "seed": st.integers(0, 2**32 - 1),
    "epoch": st.integers(0, 10**6),
}


def epoch_of(
    count: int, size: int, *, rank: int = 0, processes: int = 1, epoch: int, start: int = 0, **options: bool | int
) -> list[torch.Tensor]:
    batches = Batches(count, size, rank=rank, world_size=processes, epoch=epoch, start=start, **options)  # type: ignore[arg-type]
    batches.set_epoch(epoch)
    assert len(list(batches)) == len(batches) - start
    return list(batches)


@tried
@given(**ANY)
def test_every_example_is_in_one_batch_of_one_process(
    world: tuple[int, int, int], shuffle: bool, seed: int, epoch: int
) -> None:
    count, size, processes = world
    options = {"shuffle": shuffle, "seed": seed, "epoch": epoch}
    ranks = [epoch_of(count, size, rank=rank, processes=processes, **options) for rank in range(processes)]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(1 <= len(batch) <= size for rank in ranks for batch in rank)
    assert torch.equal(torch.cat([batch for rank in ranks for batch in rank]).sort().values, torch.arange(count))
    # Together they are the batches of one process, except that the last two are divided again if the last is too small.
    single = epoch_of(count, size * processes, **options)
    together = [torch.cat(parts) for parts in zip(*ranks, strict=True)]
    assert len(single) == len(together)
    if len(single) > 1 and len(single[-1]) < processes:
        single[-2:], together[-2:] = [torch.cat(single[-2:])], [torch.cat(together[-2:])]
    for one, other in zip(single, together, strict=True):
        assert torch.equal(one.sort().values, other.sort().values)
    if not shuffle:
        assert torch.equal(torch.cat(single), torch.arange(count))


@tried
@given(**ANY, start=st.integers(0))
def test_batches_after_a_start_are_the_same_as_without_it(
    world: tuple[int, int, int], shuffle: bool, seed: int, epoch: int, start: int
) -> None:
    """The next epoch has all of its batches again."""
    count, size, processes = world
    options = {"shuffle": shuffle, "seed": seed, "rank": processes - 1, "processes": processes}
    epoch_batches = epoch_of(count, size, epoch=epoch, **options)
    start %= len(epoch_batches) + 1
    rest = epoch_of(count, size, epoch=epoch, start=start, **options)
    assert len(rest) == len(epoch_batches) - start
    assert all(torch.equal(one, other) for one, other in zip(rest, epoch_batches[start:], strict=True))
    resumed = Batches(
        count,
        size,
        shuffle=shuffle,
        seed=seed,
        rank=processes - 1,
        world_size=processes,
        epoch=epoch,
        start=start,
    )
    resumed.set_epoch(epoch + 1)
    following = epoch_of(count, size, epoch=epoch + 1, **options)
    assert all(torch.equal(one, other) for one, other in zip(resumed, following, strict=True))


@tried
@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 10**6))
def test_orders_differ_between_epochs_and_seeds(seed: int, epoch: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat(epoch_of(50, 8, shuffle=True, seed=seed, epoch=epoch)).tolist()

    assert order(seed, epoch) == order(seed, epoch) != order(seed, epoch + 1)
    assert order(seed, epoch) != order((seed + 1) % 2**32, epoch)
