"""A stand-in for an accelerator that this machine lacks, with random number generators on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor


class StandIn:
    """Replaces functions of `torch.mps` or `torch.xpu` for the duration of `monkeypatch`.

    Seeding of all devices (`torch.manual_seed`) and reading or setting random states goes to `generators`.

    Args:
        monkeypatch: the fixture.
        kind: "mps", whose devices need no initialisation, or "xpu", whose devices do.
        count: the number of devices.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: str = "mps", count: int = 1) -> None:
        self.kind, self.started = kind, True
        self.generators = [torch.Generator().manual_seed(number) for number in range(count)]
        module = getattr(torch, kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device(kind))
        monkeypatch.setattr(module, "is_available", lambda: True)
        monkeypatch.setattr(module, "device_count", lambda: count)
        monkeypatch.setattr(module, "get_rng_state", lambda index: self.generators[index].get_state())
        monkeypatch.setattr(module, "set_rng_state", lambda state, index: self.generators[index].set_state(state))
        monkeypatch.setattr(module, "manual_seed", self._seed)
        if kind != "mps":
            monkeypatch.setattr(module, "manual_seed_all", self._seed)
            monkeypatch.setattr(module, "is_initialized", lambda: self.started)

    def _seed(self, seed: int) -> None:
        for generator in self.generators:
            generator.manual_seed(seed)

    def noise(self, index: int = 0) -> Tensor:
        """Return the next random numbers of a device, (3,)."""
        return torch.rand(3, generator=self.generators[index])
