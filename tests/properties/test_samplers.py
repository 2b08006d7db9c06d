"""Every example once, however many there are, in batches of any size over any number of processes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from nelbo.data.loader import Batches
from tests.properties import tried


@st.composite
def worlds(draw: st.DrawFn) -> tuple[int, int, int]:
    """N, B and the number of processes, as the data module lets them be: nobody may go without."""
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
def test_every_example_comes_once_over_all_processes(
    world: tuple[int, int, int], shuffle: bool, seed: int, epoch: int
) -> None:
    count, size, processes = world
    options = {"shuffle": shuffle, "seed": seed, "epoch": epoch}
    ranks = [epoch_of(count, size, rank=rank, processes=processes, **options) for rank in range(processes)]
    assert len({len(rank) for rank in ranks}) == 1
    assert all(1 <= len(batch) <= size for rank in ranks for batch in rank)
    assert torch.equal(torch.cat([batch for rank in ranks for batch in rank]).sort().values, torch.arange(count))
    # Together they are the batches of one process; only the last two are shared out anew where one is too small.
    alone = epoch_of(count, size * processes, **options)
    together = [torch.cat(parts) for parts in zip(*ranks, strict=True)]
    assert len(alone) == len(together)
    if len(alone) > 1 and len(alone[-1]) < processes:
        alone[-2:], together[-2:] = [torch.cat(alone[-2:])], [torch.cat(together[-2:])]
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.sort().values, other.sort().values)
    if not shuffle:
        assert torch.equal(torch.cat(alone), torch.arange(count))


@tried
@given(**ANY, start=st.integers(0))
def test_what_is_left_after_a_start_is_the_same(
    world: tuple[int, int, int], shuffle: bool, seed: int, epoch: int, start: int
) -> None:
    """And the next epoch has all of its batches."""
    count, size, processes = world
    options = {"shuffle": shuffle, "seed": seed, "rank": processes - 1, "processes": processes}
    whole = epoch_of(count, size, epoch=epoch, **options)
    start %= len(whole) + 1
    rest = epoch_of(count, size, epoch=epoch, start=start, **options)
    assert len(rest) == len(whole) - start
    assert all(torch.equal(one, other) for one, other in zip(rest, whole[start:], strict=True))
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
