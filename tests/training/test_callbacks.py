"""Lightning's and users' own callbacks: hooks, monitors and errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    DeviceStatsMonitor,
    EarlyStopping,
    LambdaCallback,
    LearningRateMonitor,
    ModelCheckpoint,
)

from nelbo.config.build import build
from nelbo.errors import ConfigError, NelboError
from nelbo.training.foreign import check_callbacks, named_errors
from nelbo.training.hooks import PER_STEP, QuickAttributes
from tests.helpers.diverging import Training, make_config
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL, differences
from tests.helpers.optimizer_runs import Run

ONE_EPOCH = ("trainer.max_epochs=1", "data.batch_size=512")
"""Three steps."""


class SetsHooksLate(pl.Callback):
    """Sets hooks on itself and on the module before training starts."""

    def __init__(self, count: Callable[..., None]) -> None:
        self.count = count

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.on_train_batch_start = self.count  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        before = pl_module.on_before_zero_grad

        def counted(optimizer: torch.optim.Optimizer) -> None:
            before(optimizer)
            self.count()

        pl_module.on_before_zero_grad = counted  # type: ignore[method-assign]


def test_hooks_set_on_objects_are_called_and_empty_ones_are_disabled(tmp_path: Path) -> None:
    calls = {"lambda": 0, "late": 0}

    def count(name: str) -> Callable[..., None]:
        return lambda *arguments: calls.update({name: calls[name] + 1})

    given, late, empty = LambdaCallback(on_train_batch_end=count("lambda")), SetsHooksLate(count("late")), pl.Callback()
    training = Training(tmp_path, *ONE_EPOCH, callbacks=(given, late, empty)).fit()
    assert calls == {"lambda": 3, "late": 3 + 3}
    assert [getattr(empty, hook) for hook in PER_STEP] == [None] * len(PER_STEP)
    assert given.on_before_backward is None and training.module.on_after_backward is None  # type: ignore[comparison-overlap]


class Own(pl.Callback):
    """A user's callback with a bug."""

    def on_train_batch_end(self, *arguments: Any) -> None:
        raise ValueError("a bug in a callback")


class OwnStopping(EarlyStopping):
    """A user's callback derived from one of Lightning's."""


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EarlyStopping("val_loss"), "Early stopping conditioned on metric `val_loss` which is not available"),
        (OwnStopping("val_loss"), "Early stopping conditioned on metric `val_loss` which is not available"),
        (DeviceStatsMonitor(), "`DeviceStatsMonitor` cannot log CPU stats as `psutil` is not installed"),
    ],
)
def test_an_error_of_a_lightning_callback_in_training_is_one_line_that_names_the_callback(
    tmp_path: Path, callback: pl.Callback, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pytorch_lightning.callbacks.device_stats_monitor._PSUTIL_AVAILABLE", "")
    kind = type(callback).__name__
    specs = {"other": None, "mine": {"_target_": f"package.{kind}"}}
    with pytest.raises(NelboError, match=rf"^callbacks.mine \({kind}\): {message}"), named_errors(specs):
        Training(tmp_path, *ONE_EPOCH, callbacks=(callback,)).fit()


def test_a_bug_in_a_users_own_callback_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^a bug in a callback$"), named_errors({"mine": {"_target_": "package.Own"}}):
        Training(tmp_path, *ONE_EPOCH, callbacks=(Own(),)).fit()


def test_monitors_of_metrics_that_are_not_logged_are_refused() -> None:
    metrics = ["val/objective", "val/nelbo"]
    for callback in (EarlyStopping("val_loss"), ModelCheckpoint(monitor="step_")):
        with pytest.raises(ConfigError, match=r"^callbacks.x.monitor=.*: is not a logged metric; choose from val/obj"):
            check_callbacks({"x": callback}, metrics)
    for known in (EarlyStopping("val/nelbo"), ModelCheckpoint(monitor="step"), EarlyStopping("?", strict=False)):
        check_callbacks({"x": known}, metrics)
    check_callbacks({"x": EarlyStopping("lr-Adam"), "rates": LearningRateMonitor()}, metrics)
    check_callbacks({"x": EarlyStopping("own/metric"), "own": Own()}, metrics)  # Own may log it


def test_an_error_of_a_lightning_callback_ends_a_run_with_status_2(tmp_path: Path) -> None:
    monitor = "+callbacks.stats={_target_:pytorch_lightning.callbacks.DeviceStatsMonitor}"
    done = forked("train.py", *SMALL, "trainer=smoke", monitor, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    message = "error: callbacks.stats (DeviceStatsMonitor): Cannot use `DeviceStatsMonitor` callback with `Trainer("
    assert done.stderr.splitlines()[-1].startswith(message)


class Batches(pl.Callback):
    """Records every training batch."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch[0])


@pytest.mark.parametrize("overfits", [True, False])
def test_overfit_batches_repeats_the_same_batches_in_each_epoch_pixel_for_pixel(tmp_path: Path, overfits: bool) -> None:
    random_data = ("data.protocol=dynamic", "likelihood=bernoulli", "data.augment.flip=true", "trainer.max_epochs=3")
    limit = "++trainer.overfit_batches=2" if overfits else "trainer.limit_train_batches=2"
    batches = Batches()
    Training(tmp_path, *random_data, limit, callbacks=(batches,)).fit()
    assert len(batches.seen) == 6 and not torch.equal(batches.seen[0], batches.seen[1])
    for first, later in zip(batches.seen[:2] * 2, batches.seen[2:], strict=True):
        assert torch.equal(first, later) == overfits


ACCUMULATION = "pytorch_lightning.callbacks.GradientAccumulationScheduler"


def test_accumulation_by_epoch_has_integer_keys_and_its_steps_are_counted(tmp_path: Path) -> None:
    """The epochs of three batches have 3, 2, 2 and 1 steps."""

    def accumulation() -> pl.Callback:
        override = f"+callbacks.accumulation={{_target_:{ACCUMULATION},scheduling:{{1:2,3:3}}}}"
        return build(make_config(override)["callbacks"]["accumulation"])  # type: ignore[no-any-return]

    whole = Run(tmp_path / "whole", "scheduler=linear", callbacks=(accumulation(),), step=4)
    steps = (0, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 7)
    assert whole.watch.rates == pytest.approx([0.01 * (1 - step / 8) for step in steps])
    options = {"callbacks": (accumulation(),), "step": 4, "resume_from": whole.folder, "at": (1, 2)}
    resumed = Run(tmp_path / "resumed", "scheduler=linear", **options)
    assert resumed.watch.rates == whole.watch.rates[5:] and differences(whole.end(), resumed.end()) == []


def test_keys_are_integers_or_text_but_not_both() -> None:
    with pytest.raises(ConfigError, match="^callbacks.x.scheduling.2=...: keys must be plain text"):
        build({"_target_": ACCUMULATION, "scheduling": {2: 4, "x": 1}}, "callbacks.x")
    with pytest.raises(ConfigError, match=r"^callbacks.x=GradientAccumulationScheduler: Epoch should be an int"):
        build({"_target_": ACCUMULATION, "scheduling": {"2": 4}}, "callbacks.x")


def test_text_is_set_quickly_where_it_is_no_part_of_the_module() -> None:
    module = QuickAttributes()
    module.note, module.layer = "first", torch.nn.Linear(1, 1)
    module.weight = torch.nn.Parameter(torch.zeros(1))
    with mock.patch.object(torch.nn.Module, "__setattr__") as slow:
        module.note = "second"
        module.note = None
        module._current_fx_name = "on_train_start"  # as Lightning does
    assert module.note is None and module._current_fx_name == "on_train_start" and not slow.called
    module.layer = module.weight = None
    assert module._modules["layer"] is None and module._parameters["weight"] is None
    with pytest.raises(TypeError, match="cannot assign"):
        module.layer = "text"
