"""Data of real numbers: what is served of them, which protocols they have, and what is refused."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from nelbo.data import Arrays, Augmentation, Examples
from nelbo.data.module import ImageData
from nelbo.errors import ConfigError, DataError
from tests.helpers.image_data import make


def arrays(train: Tensor, test: Tensor | None = None) -> Arrays:
    """Return a data set without labels."""
    test = train[:10] if test is None else test
    return Arrays(Examples(train, torch.full((len(train),), -1)), Examples(test, torch.full((len(test),), -1)))


def ready(data: Arrays, **options: object) -> ImageData:
    """Return a data module of a data set that has been set up."""
    module = make(data, **{"levels": None, "shape": None, "validation_size": 10, **options})
    module.setup()
    return module


def first(data: ImageData, epoch: int | None) -> Tensor:
    """Return the first training examples as the model is given them."""
    return data.present("train", data.splits["train"].__getitems__(torch.arange(20)), epoch).x


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floats_of_a_data_function_become_float32(dtype: torch.dtype) -> None:
    x = torch.randn(50, 7).to(dtype)
    data = ready(arrays(x))
    rows = data.splits["train"].indices
    assert rows is not None and first(data, None).dtype == torch.float32
    assert torch.equal(first(data, None), x[rows[:20]].float()) and torch.equal(first(data, 3), first(data, None))
    assert data.shape == (7,) and data.levels is None and data.dequantized_levels is None


def test_the_range_of_pictures_is_that_of_values_outside_the_unit_interval() -> None:
    inside, outside = torch.rand(50, 1, 4, 4), torch.randn(50, 1, 4, 4)
    data = ready(arrays(inside))
    assert data.value_range(data.starting_batch()) is None
    data = ready(arrays(outside))
    low, high = data.value_range(data.starting_batch()) or (0, 0)
    assert outside.min() <= low < -1 and 1 < high <= outside.max()
    data = ready(arrays(inside, inside[:10] + 1))  # test data count, too
    assert data.value_range(data.starting_batch()) is not None


@pytest.mark.parametrize("protocol", ["dynamic", "fixed"])
def test_floats_in_the_unit_interval_are_probabilities_of_one(protocol: str) -> None:
    x = torch.tensor([0.0, 0.25, 0.999, 1.0]).expand(4000, 4).contiguous()
    data = ready(arrays(x), protocol=protocol)
    examples = data.splits["train"].__getitems__(torch.arange(3990))
    drawn = [data.present("train", examples, epoch).x for epoch in (0, 1)]
    assert drawn[0].unique().tolist() == [0, 1]
    assert torch.equal(drawn[0], drawn[1]) == (protocol == "fixed")
    shares = drawn[0].mean(dim=0)
    assert shares[0] == 0 and shares[3] == 1 and abs(shares[1] - 0.25) < 0.03 and shares[2] > 0.99
    assert data.value_range(data.starting_batch()) is None


def test_floats_are_thresholded_at_one_half() -> None:
    x = torch.tensor([0.0, 0.4999, 0.5, 1.0]).expand(50, 4).contiguous()
    assert torch.equal(first(ready(arrays(x), protocol="threshold"), 0), torch.tensor([0.0, 0, 1, 1]).expand(20, 4))


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (torch.rand(50, 4), {"protocol": "dequantized"}, ConfigError, "protocol=dequantized: is for pixels of 8 bits"),
        (torch.rand(50, 4), {"protocol": "static"}, ConfigError, "protocol=static: is for pixels of 8 bits, and fake"),
        (
            torch.randn(50, 4),
            {"protocol": "fixed"},
            ConfigError,
            "takes floats in [0, 1] as probabilities of 1, and fake",
        ),
        (
            torch.randn(50, 4),
            {"levels": 256},
            ConfigError,
            "levels=256: is for pixels of 8 bits, and fake holds floats",
        ),
        (torch.randn(50, 4), {"shape": (5,)}, ConfigError, "shape=[5]: fake has images of shape [4]"),
        (torch.randn(50, 2, 4), {}, DataError, "its data have shape (2, 4); needs images (C, H, W) or vectors (D,)"),
        (torch.ones(50, 4), {}, DataError, "every value of every example is 1, so there is nothing to learn"),
        (
            torch.randn(50, 4),
            {"augment": Augmentation(flip=True, pad_crop=0)},
            ConfigError,
            "augment.flip=true: is for images, and the data are vectors of 4 numbers",
        ),
        (
            torch.randn(50, 4),
            {"augment": Augmentation(flip=False, pad_crop=2)},
            ConfigError,
            "augment.pad_crop=2: is for images, and the data are vectors of 4 numbers",
        ),
    ],
)
def test_what_floats_or_vectors_cannot_be_is_refused(
    data: Tensor, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)) as caught:
        ready(arrays(data), **options)
    assert "\n" not in str(caught.value)


def test_floats_that_are_not_finite_are_refused_by_part() -> None:
    x = torch.randn(50, 4)
    bad = x[:10].clone()
    bad[3, 1] = torch.inf
    message = "fake: its test data holds NaN or infinity in 1 of 10 examples, the first at [3, 1]"
    with pytest.raises(DataError, match=re.escape(message)):
        ready(arrays(x, bad))
    with pytest.raises(DataError, match="its test data are uint8 and its training data floats; save both in one type"):
        ready(arrays(x, torch.zeros(10, 4, dtype=torch.uint8)))


def test_real_images_can_be_flipped() -> None:
    x = torch.randn(50, 2, 4, 6)
    data = ready(arrays(x), augment=Augmentation(flip=True, pad_crop=1))
    assert first(data, 0).shape == (20, 2, 4, 6) and not torch.equal(first(data, 0), first(data, None))
