"""Items and batches of Datasets and DataModules that are not nelbo's, as model input.

An item is x; (x, label); (x, label, columns); or a mapping with the key `x` and perhaps `label` and other names. A
batch has the same form, with a first dimension more.

Shapes: B batch; an example x has any shape, of an image (C, H, W).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from nelbo.data.arrays import LABEL, UNLABELLED, Batch
from nelbo.errors import DataError, first_line

__all__ = ["TARGET", "as_batch", "as_input", "batch_of_items", "check_input", "left_out"]

X = "x"
TARGET = "target"
"""The name of a second entry that is not a class, such as a number to predict: it is a column, and no label."""

FORMS = "x, (x, label), (x, label, columns) or a mapping with the key 'x'"
DIMENSIONS = (1, 3)
"""Numbers of dimensions that an example may have: a vector or an image."""


def as_batch(batch: Any) -> Batch:
    """Return a batch of our data or of another DataModule: x; (x, labels); or (x, labels, columns) or a mapping.

    Args:
        batch: a tensor, a sequence that begins with x and may go on with labels and a mapping of columns, or a mapping
            with the keys `x` and, if known, `label` and other names of a model's context.

    Raises:
        TypeError: for anything else.

    Example:
        >>> as_batch([torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)]).labels.shape
        torch.Size([5])
    """
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, Tensor):
        return _batch(batch, None, {})
    if isinstance(batch, Mapping) and isinstance(batch.get(X), Tensor):
        return _batch(batch[X], batch.get(LABEL), {name: batch[name] for name in batch if name not in (X, LABEL)})
    if isinstance(batch, Sequence) and batch and isinstance(batch[0], Tensor):
        x, *rest = batch
        return _batch(x, rest[0] if rest else None, next((part for part in rest if isinstance(part, Mapping)), {}))
    raise TypeError(f"a batch must be a tensor x, {FORMS.removeprefix('x, ')}, not a {type(batch).__name__}")


def _batch(x: Tensor, second: object, known: Mapping[str, object]) -> Batch:
    """Return a batch; of `second` and `known`, what has an entry for each example is used."""
    columns = {name: _as_column(value) for name, value in known.items() if _is_column(value, x)}
    labels = torch.full((len(x),), UNLABELLED, device=x.device)
    if isinstance(second, Tensor) and _is_column(second, x):
        if second.ndim == 1 and not second.is_floating_point():
            labels = second.long()
        else:
            columns[TARGET] = _as_column(second)
    return Batch(x, labels, columns)


def _is_column(value: object, x: Tensor) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(x)


def _as_column(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value.float() if value.is_floating_point() else value.long()


def as_input(x: Tensor) -> Tensor:
    """Return examples as floats: uint8 divided by 255, and other numbers as they are."""
    return x.float().mul_(1 / 255) if x.dtype == torch.uint8 else x.float()


def left_out(item: Any) -> list[str]:
    """Return the entries of an item that no model is given, because of their place or because they are no numbers."""
    if isinstance(item, Mapping):
        return [str(name) for name, value in item.items() if name != X and not _is_numeric(value)]
    if not isinstance(item, list | tuple):
        return []
    names: list[str] = []
    for place, value in enumerate(item):
        if isinstance(value, Mapping):
            names += left_out(value)
        elif place > 1 or (place == 1 and not _is_numeric(value)):
            names.append(f"entry {place}")
    return names


def _is_numeric(value: object) -> bool:
    return isinstance(value, Tensor | bool | int | float) or hasattr(value, "__array_interface__")


def batch_of_items(
    items: Sequence[Any], rows: Sequence[int], where: str, collate: Callable[[Any], Any] = default_collate
) -> Batch:
    """Return items as a batch.

    Args:
        items: the items.
        rows: their positions in the Dataset, for messages.
        where: the Dataset, for messages.
        collate: puts items together, as the `collate_fn` of a DataLoader does.

    Raises:
        DataError: if they cannot be put together; the message names the first item that is at fault.
    """
    try:
        batch = as_batch(collate(items))
    except (TypeError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        if collate is default_collate:
            usual = _usual_shape(items)
            for item, row in zip(items, rows, strict=True):
                if problem := _problem(item, usual):
                    raise DataError(f"{where}: item {row} {problem}") from error
        raise DataError(f"{where}: items {rows[0]} to {rows[-1]} make no batch: {first_line(error)}") from error
    if len(batch.x) != len(items):
        raise DataError(f"{where}: {len(items)} items make a batch of {len(batch.x)}: x must have an entry for each")
    return batch


def _usual_shape(items: Sequence[Any]) -> tuple[int, ...]:
    """Return the most frequent shape of the x of items."""
    shapes = Counter(tuple(x.shape) for item in items if hasattr(x := _x_of(item), "shape"))
    return shapes.most_common(1)[0][0] if shapes else ()


def _problem(item: Any, usual: Sequence[int]) -> str:
    """Return what is wrong with an item, where others have the shape `usual`; empty if nothing is known to be."""
    x = _x_of(item)
    if "PIL" in type(x).__module__:
        return "is a PIL image: let a transform turn it into a tensor, such as torchvision.transforms.ToTensor()"
    if x is None or not hasattr(x, "shape"):
        return f"is {_shown(item)}, but an item must be {FORMS}, with x a tensor or a NumPy array"
    if tuple(x.shape) != usual:
        return f"has the shape {list(x.shape)} and others have {list(usual)}: all must have the same"
    return ""


def _x_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        return item.get(X)
    return item[0] if isinstance(item, list | tuple) and item else item


def _shown(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a mapping with the keys {', '.join(map(str, item)) or 'none'}"
    if isinstance(item, list | tuple):
        return f"a {type(item).__name__} that begins with a {type(item[0]).__name__}" if item else "empty"
    return f"a {type(item).__name__}"


def check_input(x: Tensor, shape: Sequence[int] | None, where: str, rows: Sequence[int] | None = None) -> None:
    """Check the examples of a batch, which are on the CPU.

    Args:
        x: as the Dataset gives them, (B, ...).
        shape: the shape that each must have; None for any vector or image.
        where: the Dataset, for messages.
        rows: the positions of the examples in the Dataset; None if unknown.

    Raises:
        DataError: for another shape, whole numbers that are not uint8, or values that are not finite.
    """
    found = list(x.shape[1:])
    if shape is not None and found != list(shape):
        raise DataError(f"{where}: examples have the shape {found} and others have {list(shape)}: all must be the same")
    if len(found) not in DIMENSIONS:
        hint = "; for a grey image add a dimension: x.unsqueeze(0)" if len(found) == 2 else ""
        raise DataError(f"{where}: x has the shape {found}, but must be an image (C, H, W) or a vector{hint}")
    if not x.is_floating_point() and x.dtype not in (torch.uint8, torch.bool):
        kind = str(x.dtype).removeprefix("torch.")
        raise DataError(f"{where}: x is of type {kind}, but must be uint8 from 0 to 255, or floats")
    if x.is_floating_point() and not x.isfinite().all():
        bad = int((~x.flatten(1).isfinite().all(dim=1)).nonzero()[0])
        item = f"item {rows[bad]}" if rows is not None else f"example {bad} of a batch"
        raise DataError(f"{where}: {item} has values that are not finite (NaN or infinite)")
