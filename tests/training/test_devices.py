"""Devices that a run requests and that the machine does not have: one line that names the key."""

from __future__ import annotations

import pytest
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from nelbo.errors import ConfigError
from nelbo.training.devices import check_devices


def refusal(**options: object) -> str:
    """Return the error for options of the Trainer; empty if they are accepted."""
    try:
        check_devices(options)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> object:
    """A function that simulates a machine with a number of CUDA devices."""

    def make(count: int) -> None:
        monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: count > 0))
        monkeypatch.setattr(CUDAAccelerator, "auto_device_count", staticmethod(lambda: count))
        monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: False))

    return make


def test_without_a_gpu_the_key_that_requests_one_is_named(gpus) -> None:
    gpus(0)
    for accelerator in ("gpu", "cuda", "mps", "tpu"):
        message = f"trainer.accelerator={accelerator}: is not available on this machine; trainer.accelerator=auto "
        assert refusal(accelerator=accelerator, devices=1).startswith(message)
    for accelerator in ("auto", "cpu"):
        message = "trainer.devices=[0, 1]: selects GPUs, but this run uses the CPU; use trainer.devices=2"
        assert refusal(accelerator=accelerator, devices=[0, 1]) == message
        assert refusal(accelerator=accelerator, devices=-1).startswith("trainer.devices=-1: selects GPUs")
        for devices in (1, 2, "auto", "2"):
            assert refusal(accelerator=accelerator, devices=devices) == ""


def test_devices_that_a_machine_does_not_have_are_named(gpus) -> None:
    gpus(2)
    assert refusal(accelerator="gpu", devices=3) == (
        "trainer.devices=3: this machine has 2; trainer.devices=auto uses all of them"
    )
    assert refusal(accelerator="auto", devices=[0, 2]).startswith(
        "trainer.devices=[0, 2]: this machine has 2, with indices 0 to 1"
    )
    assert refusal(accelerator="cuda", devices="1,1") == "trainer.devices=1,1: names a device twice"
    for accepted in (1, 2, [0, 1], [1], "0,1", "auto", -1):
        assert refusal(accelerator="gpu", devices=accepted) == ""
    assert refusal(accelerator="cpu", devices=8) == ""
