"""Devices of all kinds are chosen as torch names them, and one without float64 is asked for none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nelbo.errors import ConfigError
from nelbo.runs.finished import torch_device
from tests.measures import NAMES, active_vae, make_digits, make_measures, taken

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine("mps", 1)` makes this one have such an accelerator."""

    def make(kind: str | None, count: int = 1) -> None:
        here = None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: here)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0 if kind is None else count)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return make


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_any_accelerator_that_torch_can_use(machine: Machine, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(kind, 2)
    assert torch_device("auto") == torch_device(kind) == torch.device(kind, 0)
    assert torch_device(f"{kind}:1") == torch.device(kind, 1)
    assert torch_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "3")  # of torchrun: processes take turns
    assert torch_device("auto") == torch.device(kind, 1) and torch_device(f"{kind}:0") == torch.device(kind, 0)
    with pytest.raises(ConfigError, match=f"device={kind}:2: there are 2 here: device={kind} takes one"):
        torch_device(f"{kind}:2")
    other = "mps" if kind != "mps" else "cuda"
    with pytest.raises(ConfigError, match=f"device={other}: torch cannot use it here: device={kind}"):
        torch_device(other)


def test_without_an_accelerator_there_is_the_cpu(machine: Machine) -> None:
    machine(None)
    assert torch_device("auto") == torch_device("cpu") == torch.device("cpu")
    for device in ("cuda", "mps", "meta"):
        with pytest.raises(ConfigError, match=f"device={device}: torch cannot use it here: device=cpu"):
            torch_device(device)
    for device in ("tpu", "gpu", ""):
        with pytest.raises(ConfigError, match=f"device={device}: must be auto, or as torch names it: cpu, cuda"):
            torch_device(device)


class Remote(Tensor):
    """A tensor on a stand-in for a device without float64, such as Apple's: what is made of it is there too."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(function, types, args, kwargs or {})
        if function is Tensor.cpu:
            return result.as_subclass(Tensor)
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


class Local(Tensor):
    """Images in memory, which `to` sends to that device."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(function, types, args, kwargs or {})
        return result.as_subclass(Remote) if function is Tensor.to else result


@dataclass(frozen=True)
class LocalSplit:
    """A split with such images."""

    split: Any

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, positions: Tensor) -> Tensor:
        return self.split[positions].as_subclass(Local)  # type: ignore[no-any-return]

    @property
    def labels(self) -> Tensor:
        return self.split.labels  # type: ignore[no-any-return]

    @property
    def factors(self) -> Tensor | None:
        return self.split.factors  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_no_measure_asks_a_device_for_float64_that_it_has_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nelbo.distributions.precision.has_float64", lambda device: False)
    subject, measure = make_digits(active_vae()), make_measures("limit=60")[name]
    remote = taken(measure, replace(subject, splits={key: LocalSplit(part) for key, part in subject.splits.items()}))
    exact = taken(measure, subject)
    assert remote.values.keys() == exact.values.keys()
    for key, value in exact.values.items():
        assert remote.values[key] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-4)), key
