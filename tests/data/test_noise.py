"""Counter-based random numbers (uniform, independent, functions of the key alone) and augmentation."""

from __future__ import annotations

import math

import pytest
import torch

from nelbo.data.augmentation import Augmentation
from nelbo.data.noise import COLUMNS, FLIP, PIXELS, Draws
from nelbo.errors import ConfigError

BATCH, SIDE = 256, 32


def pixels(seed: int = 0, epoch: int = 0, first: int = 0, purpose: int = PIXELS) -> torch.Tensor:
    return Draws(seed, epoch, torch.arange(first, first + BATCH)).uniform(purpose, SIDE, SIDE).double().flatten(1)


def test_numbers_are_uniform() -> None:
    """Chi-square over 256 cells of the leading bits, and of the bits below them; 5 standard deviations."""
    u = pixels()
    assert 0 <= u.min() and u.max() < 1
    for scale in (2**8, 2**16):
        counts = ((u * scale) % 256).long().flatten().bincount(minlength=256).double()
        chi = ((counts - counts.mean()).square() / counts.mean()).sum().item()
        assert abs(chi - 255) < 5 * math.sqrt(2 * 255)
    # The mean at each position of the image, over the examples of an epoch.
    means = pixels().mean(0)
    assert (means - 0.5).abs().max() < 5.5 * math.sqrt(1 / 12 / BATCH)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"epoch": 1}, {"first": BATCH}, {"first": 1 << 40}, {"purpose": FLIP}, {"first": 1}],
    ids=str,
)
def test_numbers_of_other_keys_are_independent(other: dict[str, int]) -> None:
    """Correlation of the numbers and of their lowest bits; 5 standard deviations."""
    one, two = pixels(), pixels(**other)
    if other == {"first": 1}:
        one, two = one[:-1], two[:-1]  # example i is compared with example i + 1
    for u, v in ((one, two), (one * 2**24 % 2, two * 2**24 % 2)):
        correlation = torch.corrcoef(torch.stack([u.flatten(), v.flatten()]))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(u.numel())


def test_pixels_of_one_example_are_independent() -> None:
    u = pixels() - 0.5
    for shift in (1, 2, 16, SIDE, 512):
        products = (u[:, shift:] * u[:, :-shift]).flatten()
        assert abs(products.mean()) < 5 * (1 / 12) / math.sqrt(len(products))


def test_numbers_do_not_depend_on_the_batch() -> None:
    whole = Draws(3, 7, torch.arange(100)).uniform(PIXELS, 3, 4, 4)
    order = torch.randperm(100)
    parts = torch.cat([Draws(3, 7, part).uniform(PIXELS, 3, 4, 4) for part in order.split(17)])
    assert torch.equal(parts, whole[order])
    before = torch.random.get_rng_state()
    Draws(0, 0, torch.arange(3)).uniform(COLUMNS)
    assert torch.equal(before, torch.random.get_rng_state())


def test_numbers_are_the_same_in_all_versions() -> None:
    """Otherwise runs of different versions could not be compared."""
    u = Draws(1, 2, torch.tensor([0, 12345])).uniform(PIXELS, 2)
    assert (u * 2**24).long().tolist() == GOLDEN


GOLDEN = [[2261092, 14066969], [1205898, 9367296]]


def batch(count: int = 400) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 6, 5), dtype=torch.uint8)


def test_flips_mirror_half_of_the_images() -> None:
    images, draws = batch(), Draws(0, 0, torch.arange(400))
    flipped = Augmentation(flip=True, pad_crop=0)(images, draws)
    same, mirrored = (flipped == images).flatten(1).all(1), (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all() and 150 < mirrored.sum() < 250
    next_epoch = Augmentation(flip=True, pad_crop=0)(images, Draws(0, 1, torch.arange(400)))
    assert not torch.equal(next_epoch, flipped)


def test_crops_are_shifts_of_the_reflected_image() -> None:
    images, draws = batch(), Draws(0, 0, torch.arange(400))
    cropped = Augmentation(flip=False, pad_crop=2)(images, draws)
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    shifts = torch.stack([padded[:, :, dy : dy + 6, dx : dx + 5] for dy in range(5) for dx in range(5)])
    matches = (shifts == cropped).flatten(2).all(2)
    assert matches.any(0).all()
    assert (matches.sum(1) > 2).all()  # each of the 25 shifts occurs about 16 times
    assert cropped.shape == images.shape and cropped.dtype == torch.uint8


def test_without_flips_and_shifts_images_are_unchanged() -> None:
    images = batch(5)
    assert torch.equal(Augmentation(flip=False, pad_crop=0)(images, Draws(0, 0, torch.arange(5))), images)


def test_invalid_options_of_augmentation_are_refused_with_their_key() -> None:
    with pytest.raises(ConfigError, match="flip=yes"):
        Augmentation(flip="yes", pad_crop=0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pad_crop=-1"):
        Augmentation(flip=False, pad_crop=-1)
    with pytest.raises(ConfigError, match="augment.pad_crop=5: must be less than the image's 5 pixels"):
        Augmentation(flip=False, pad_crop=5).check((3, 6, 5))
