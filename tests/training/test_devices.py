"""Devices that a run requests and that the machine does not have: one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from nelbo.config.build import RUN_PREFIXES
from nelbo.errors import ConfigError
from nelbo.training import devices as of_devices
from nelbo.training import trainer as of_trainer
from nelbo.training.devices import SLOW_BFLOAT16, check_devices, chosen_precision, has_bfloat16
from tests.helpers.diverging import make_config


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


X86 = "processor\t: 0\nmodel name\t: a CPU\nflags\t\t: fpu sse2 avx512bw {}\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n\n"


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (X86.format("avx512_vnni"), False),
        (X86.format("avx512_bf16") * 2, True),
        (X86.format("amx_bf16"), True),
        (ARM.format("sve"), False),
        (ARM.format("bf16"), True),
        ("nothing is known", None),
        (None, None),
    ],
)
def test_processors_without_bfloat16_are_known(tmp_path: Path, text: str | None, has: bool | None) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    assert has_bfloat16(file) is has


@pytest.mark.parametrize(
    ("accelerator", "cpu_has", "gpu_has", "precision"),
    [
        ("cpu", True, False, "bf16-mixed"),
        ("cpu", False, True, "32-true"),
        ("cpu", None, True, "32-true"),
        ("auto", False, True, "bf16-mixed"),
        ("auto", True, None, "bf16-mixed"),
        ("gpu", True, False, "32-true"),
        ("mps", True, True, "32-true"),
    ],
)
def test_automatic_precision_is_bfloat16_where_the_device_has_instructions_for_it(
    accelerator: str, cpu_has: bool | None, gpu_has: bool | None, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gpu_has` None: there is no GPU."""
    monkeypatch.setattr(of_devices, "has_bfloat16", lambda: cpu_has)
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: gpu_has is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_has)
    assert chosen_precision({"precision": "auto", "accelerator": accelerator}) == precision
    assert chosen_precision({"precision": "32-true", "accelerator": accelerator}) == "32-true"


@pytest.mark.parametrize(
    ("precision", "warnings"),
    [("bf16-mixed", [SLOW_BFLOAT16]), ("32-true", []), ("auto", ["trainer.precision=auto: 32-true"])],
)
def test_bfloat16_without_instructions_for_it_is_one_warning(
    tmp_path: Path,
    precision: str,
    warnings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for module in (of_trainer, of_devices):
        monkeypatch.setattr(module, "has_bfloat16", lambda: False)
    caplog.set_level("INFO", "nelbo")
    plain = make_config(f"trainer.precision={precision}", "logger=none", "callbacks=none")
    of_trainer.make_trainer(plain, tmp_path, None, [], RUN_PREFIXES, validated=False)  # type: ignore[arg-type]
    assert [record.message for record in caplog.records if record.name.startswith("nelbo")] == warnings
