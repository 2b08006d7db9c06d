"""Devices that a run asks for and that are not there: one line that names the key."""

from __future__ import annotations

import pytest
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from nelbo.errors import ConfigError
from nelbo.training.devices import check_devices


def refusal(**options: object) -> str:
    """What is said of options of the Trainer; empty if they are taken."""
    try:
        check_devices(options)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> object:
    """A machine with so many CUDA devices."""

    def make(count: int) -> None:
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: count > 0))
        monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: count))
        monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: False))

    return make


def test_without_a_gpu_the_key_that_asks_for_one_is_named(gpus) -> None:
    gpus(0)
    for accelerator in ("gpu", "cuda", "mps", "tpu"):
        assert refusal(accelerator=accelerator, devices=1).startswith(
            f"trainer.accelerator={accelerator}: there is none"
        )
    for accelerator in ("auto", "cpu"):
        named = refusal(accelerator=accelerator, devices=[0, 1])
        assert named == "trainer.devices=[0, 1]: is of GPUs, and this run is on the CPU: trainer.devices=2"
        assert refusal(accelerator=accelerator, devices=-1).startswith("trainer.devices=-1: is of GPUs")
        for devices in (1, 2, "auto", "2"):
            assert refusal(accelerator=accelerator, devices=devices) == ""


def test_devices_that_a_machine_does_not_have_are_named(gpus) -> None:
    gpus(2)
    assert refusal(accelerator="gpu", devices=3) == (
        "trainer.devices=3: there are 2 here; trainer.devices=auto takes all"
    )
    assert refusal(accelerator="auto", devices=[0, 2]).startswith(
        "trainer.devices=[0, 2]: there are 2 here, whose indices are 0 to 1"
    )
    assert refusal(accelerator="cuda", devices="1,1") == "trainer.devices=1,1: names a device twice"
    for taken in (1, 2, [0, 1], [1], "0,1", "auto", -1):
        assert refusal(accelerator="gpu", devices=taken) == ""
    assert refusal(accelerator="cpu", devices=8) == ""
