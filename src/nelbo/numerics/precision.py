"""Where float32 is not enough, and how exactly a GPU computes in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

Setting = TypeVar("Setting")

IEEE, TF32 = "ieee", "tf32"
FLOAT32 = (IEEE, TF32)
"""How products of matrices and convolutions of float32 are computed. `tf32`: their factors are rounded to 11 bits."""


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64: Apple's MPS does not, nor do some of Intel's GPUs."""
    if device.type == "xpu":
        return bool(torch.xpu.get_device_properties(device).has_fp64)
    return device.type != "mps"


def finest(value: Tensor) -> Tensor:
    """`value` in float64, where its device has that."""
    return value.double() if has_float64(value.device) else value


@contextmanager
def float32(setting: str | None) -> Iterator[None]:
    """Products of matrices and convolutions in float32 as `setting` says, and at the end as they were before.

    By default torch lets cuDNN round the factors of convolutions to TF32 on GPUs that have it. A p(x|z) of small sigma
    divides that error by sigma^2: log-likelihoods move by tenths of a nat and more. As a decorator it holds for a call.

    Args:
        setting: one of `FLOAT32`; None for what is set already, which comes back at the end too.
    """
    backends: Any = torch.backends
    # Two interfaces of torch say the same and must not contradict each other: matrix products and cuDNN as a whole by
    # the older one, each operation by the newer one.
    operations = (
        *(backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul),
        *(backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul),
    )
    before = [operation.fp32_precision for operation in operations]
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
        for operation, was in zip(operations, before, strict=True):
            operation.fp32_precision = "none"  # what stands above it counts, as torch.backends.fp32_precision
            if operation.fp32_precision != was:
                operation.fp32_precision = was


def _unless_mixed(read: Callable[[], Setting]) -> Setting | None:
    """What the older interface says; None where the newer one says otherwise, so that torch refuses to read it."""
    try:
        return read()
    except RuntimeError:
        return None
