"""Counting the operations that make the processor wait for a device, in a run on the CPU."""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "aten::item",
    "aten::_local_scalar_dense",  # item(), bool(), int() and float() of a tensor
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::unique_dim",
    "aten::_unique",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::repeat_interleave",
}
"""Operations whose results are numbers of Python, or have a size that depends on values."""

INDEXING = {"aten::index", "aten::index_put", "aten::index_put_"}
"""Operations that search masks among their indices."""

METHODS = ("tolist", "numpy", "cpu")
"""Methods of tensors that copy them to the processor, which is no operation where they already are."""


class Reads(TorchDispatchMode):
    """A context that counts the operations that would wait for a device.

    `count` has their numbers by name and by the lines of code that called them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self._is_active = False
        for name in METHODS:
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def start(self) -> None:
        self.__enter__()
        self._is_active = True

    def stop(self) -> None:
        self._is_active = False
        self.__exit__(None, None, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        masked = name in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])
        if name in WAITING or masked:
            self._add(name)
        return func(*args, **(kwargs or {}))

    def _counted(self, name: str, method: Any) -> Any:
        def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if self._is_active:
                self._add(name)
            return method(tensor, *args, **kwargs)

        return call

    def _add(self, name: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename][:-2]
        self.count[
            " < ".join([name, *(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[:-4:-1])])
        ] += 1
