"""Floating-point precision: float64 where it is available, and the precision of float32 products on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

Setting = TypeVar("Setting")

IEEE, TF32 = "ieee", "tf32"
FLOAT32 = (IEEE, TF32)
"""Precisions of float32 matrix products and convolutions; `tf32` rounds their factors to 11 significant bits."""


def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in float64. Apple's MPS does not, nor do some Intel GPUs."""
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type != "mps"


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Return a context without autocast on a device; it does nothing where none is on, as in exported programs."""
    is_on = device.type != "meta" and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else nullcontext()


def finest(value: Tensor) -> Tensor:
    """Return `value` in float64 if its device supports it, and unchanged otherwise."""
    return value.double() if has_float64(value.device) else value


@contextmanager
def float32(setting: str | None) -> Iterator[None]:
    """Set the precision of float32 matrix products and convolutions within a block, and restore it afterwards.

    By default torch lets cuDNN round the factors of convolutions to TF32 on GPUs that support it. A p(x|z) with a small
    sigma divides that error by sigma^2, which changes log-likelihoods by tenths of a nat and more. The function can
    also be used as a decorator.

    Args:
        setting: one of `FLOAT32`, or None to keep the current precision; it is restored in that case too.

    Example:
        >>> with float32("ieee"):
        ...     torch.backends.cudnn.conv.fp32_precision
        'ieee'
    """
    backends: Any = torch.backends
    # torch has two interfaces to the same settings, which must not contradict each other: an older one for matrix
    # products and for cuDNN as a whole, and a newer one for each operation.
    operations = (
        *(backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul),
        *(backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul),
    )
    previous = [operation.fp32_precision for operation in operations]
    products = _unless_mixed(torch.get_float32_matmul_precision)
    convolutions = _unless_mixed(lambda: backends.cudnn.allow_tf32)
    try:
        if setting is not None:
            if products is not None:
                torch.set_float32_matmul_precision("high" if setting == TF32 else "highest")
            if convolutions is not None:
                backends.cudnn.allow_tf32 = setting == TF32
            for operation in operations:
                operation.fp32_precision = setting
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            backends.cudnn.allow_tf32 = convolutions
        for operation, precision in zip(operations, previous, strict=True):
            operation.fp32_precision = "none"  # inherit from the level above, such as torch.backends.fp32_precision
            if operation.fp32_precision != precision:
                operation.fp32_precision = precision


def _unless_mixed(read: Callable[[], Setting]) -> Setting | None:
    """Return a setting of the older interface, or None if torch refuses to read it: the newer one contradicts it."""
    try:
        return read()
    except RuntimeError:
        return None
