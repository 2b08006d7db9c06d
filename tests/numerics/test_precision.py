"""Evaluation computes in IEEE float32, training in the configured precision, and previous settings are restored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nelbo.config.checks import check
from nelbo.config.identity import identity
from nelbo.errors import ConfigError
from nelbo.evaluation import ELBO, UDR, importance
from nelbo.evaluation.measure import Findings, JointMeasure, Measure, NotApplicable, Subject
from nelbo.models import VAE
from nelbo.numerics.precision import FLOAT32, float32
from nelbo.trace import Trace
from tests.helpers.diverging import Training, make_config
from tests.helpers.factors import images, make_vae
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL
from tests.helpers.subjects import make_subject

BACKENDS: Any = torch.backends
OPERATIONS = {
    f"{name}.{operation}": getattr(backend, operation)
    for name, backend, of in (
        ("cudnn", BACKENDS.cudnn, ("conv", "rnn")),
        ("cuda", BACKENDS.cuda, ("matmul",)),
        ("mkldnn", BACKENDS.mkldnn, ("conv", "rnn", "matmul")),
    )
    for operation in of
}


def all_settings() -> dict[str, object]:
    """Return all of torch's settings for float32, of both of its interfaces."""
    settings: dict[str, object] = {name: operation.fp32_precision for name, operation in OPERATIONS.items()}
    older = {
        "products": torch.get_float32_matmul_precision,
        "cudnn.allow_tf32": lambda: BACKENDS.cudnn.allow_tf32,
    }
    for name, read in older.items():
        try:
            settings[name] = read()
        except RuntimeError:  # the interfaces contradict each other
            settings[name] = "mixed"
    return {**settings, "all": BACKENDS.fp32_precision}


def precisions() -> set[object]:
    return {operation.fp32_precision for operation in OPERATIONS.values()}


@pytest.fixture(autouse=True)
def _restore_torch_settings() -> Iterator[None]:
    before = all_settings()
    yield
    BACKENDS.fp32_precision = "none"
    torch.set_float32_matmul_precision(str(before["products"]))
    BACKENDS.cudnn.allow_tf32 = True
    for name, operation in OPERATIONS.items():
        operation.fp32_precision = before[name]
    assert all_settings() == before


def _set_convolutions_only() -> None:
    BACKENDS.cudnn.conv.fp32_precision = "ieee"


SETTINGS: dict[str, Callable[[], None]] = {
    "default": lambda: None,
    "products in tf32": lambda: torch.set_float32_matmul_precision("high"),
    "products in bfloat16": lambda: torch.set_float32_matmul_precision("medium"),
    "no tf32": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
    "all by the newer interface": lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
    "convolutions by the newer interface": _set_convolutions_only,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_float32_applies_within_the_block_and_is_restored_afterwards(name: str) -> None:
    SETTINGS[name]()
    before = all_settings()
    for setting in FLOAT32:
        with pytest.raises(ZeroDivisionError), float32(setting):
            assert precisions() == {setting}
            assert "newer" in name or all_settings()["cudnn.allow_tf32"] == (setting == "tf32")
            with float32(None):
                assert precisions() == {setting}
                BACKENDS.mkldnn.conv.fp32_precision = "none"  # not restored, as after an error within the block
            with float32("ieee"):
                assert precisions() == {"ieee"}
            assert precisions() == {setting}
            raise ZeroDivisionError
        assert all_settings() == before


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_validation_and_test_use_ieee_float32_and_training_the_configured_precision(
    tmp_path: Path, precision: str
) -> None:
    torch.set_float32_matmul_precision("high")
    before = all_settings()
    training = Training(tmp_path, f"trainer.precision={precision}")
    seen: dict[str, list[object]] = {"train": [], "val": [], "test": []}
    trace = VAE.trace

    def spy(self: VAE, *arguments: Any) -> Trace:
        stage = "train" if self.training else "test" if training.trainer.testing else "val"
        seen[stage].append((all_settings() == before, precisions() == {"ieee"}, torch.is_autocast_enabled("cpu")))
        return trace(self, *arguments)

    training.module.model.trace = spy.__get__(training.module.model)  # type: ignore[method-assign]
    training.fit()
    assert all_settings() == before
    training.trainer.test(training.module, datamodule=training.data, verbose=False)
    assert all_settings() == before
    assert set(seen["train"]) == {(True, False, precision == "bf16-mixed")}
    assert set(seen["val"]) == set(seen["test"]) == {(False, True, False)}


def test_run_trains_in_the_configured_precision_and_evaluates_in_ieee(tmp_path: Path) -> None:
    spy = f"+callbacks.spy={{_target_:tests.helpers.own_package.Float32Spy,file:{tmp_path / 'seen.json'}}}"
    common = ("tests/helpers/stopping.py", "nowhere:0:SIGTERM", *SMALL, "trainer=smoke", "allow_targets=[tests.]", spy)
    done = forked(*common, "float32=ieee", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "seen.json").read_text()) == dict.fromkeys(("train", "val", "test"), "ieee")
    done = forked(*common, f"hydra.run.dir={tmp_path / 'other'}")
    assert json.loads((tmp_path / "seen.json").read_text()) == {"train": "tf32", "val": "ieee", "test": "ieee"}


def test_float32_key_is_checked_and_is_part_of_the_identity_only_if_set() -> None:
    config = make_config()
    with pytest.raises(ConfigError, match="float32=half: must be one of ieee, tf32"):
        check({**config, "float32": "half"})
    without = {key: value for key, value in config.items() if key != "float32"}
    assert identity(config) == identity(without) != identity({**config, "float32": "ieee"})


def test_every_measure_computes_in_ieee_float32() -> None:
    seen = []

    class Single(Measure):
        def __call__(self, subject: Subject) -> Findings:
            seen.append(precisions())
            raise NotApplicable("none")

    class Joint(JointMeasure):
        def __call__(self, subjects: object) -> list[Findings]:
            seen.append(precisions())
            return [Findings()]

    torch.set_float32_matmul_precision("high")
    before = all_settings()
    subject = make_subject(make_vae(), images())
    with pytest.raises(NotApplicable):
        Single()(subject)
    Joint()([subject])
    assert seen == [{"ieee"}] * 2 and all_settings() == before
    assert all(kind.__call__.__wrapped__ for kind in (ELBO, UDR))  # type: ignore[attr-defined]


def test_importance_sampling_computes_in_ieee_float32() -> None:
    model, seen = make_vae(), []
    decode = model.decoder.forward
    model.decoder.forward = lambda z: (seen.append(precisions()), decode(z))[1]  # type: ignore[method-assign, func-returns-value]
    importance(model, images(), 5)
    assert seen and all(precision == {"ieee"} for precision in seen) and precisions() != {"ieee"}
