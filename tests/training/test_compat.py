"""Private interfaces of other packages: when an upgrade changes one, its test names package, version and interface."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import MeanMetric

try:
    from nelbo.training import compat
    from nelbo.training.callbacks.compat import add_hparams, add_image
except ImportError as error:
    package = packages_distributions()[str(error.name).partition(".")[0]][0]
    raise ImportError(f"{package} {version(package)} has changed, see src/nelbo/training/compat.py: {error}") from error
from tests.helpers.tiny_training import BATCHES, Calls, Data, Model, fit, hooks_after, make_trainer, saved_in

LIGHTNING = "pytorch-lightning"


@contextlib.contextmanager
def interface(package: str, name: str) -> Iterator[None]:
    """Fail with the package, its installed version and the interface, whatever goes wrong inside."""
    try:
        yield
        return
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    message = f"{package} {version(package)} has changed `{name}`, which src/nelbo/training/compat.py wraps: {reason}"
    pytest.fail(message, pytrace=False)


def test_a_failure_names_package_version_and_interface() -> None:
    message = rf"^pytorch-lightning {version(LIGHTNING)} has changed `Trainer.other`.*compat.py wraps: AttributeError: "
    with pytest.raises(pytest.fail.Exception, match=message), interface(LIGHTNING, "Trainer.other"):
        _ = pl.Trainer.other  # type: ignore[attr-defined]


def test_callbacks_of(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.callbacks"):
        first, second = pl.Callback(), pl.Callback()
        assert compat.callbacks_of(make_trainer(tmp_path, first, second)) == [first, second]


def test_data_module_of(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.datamodule"):
        fit(trainer := make_trainer(tmp_path))
        assert isinstance(compat.data_module_of(trainer), Data)


def test_log_interval(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.log_every_n_steps"):
        assert compat.log_interval(make_trainer(tmp_path, log_every_n_steps=7)) == 7


def test_set_max_epochs(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.fit_loop.max_epochs"):
        trainer = make_trainer(tmp_path)
        compat.set_max_epochs(trainer, 3)
        fit(trainer)
        assert trainer.max_epochs == 3 and trainer.global_step == 3 * BATCHES


def test_set_min_epochs(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.fit_loop.min_epochs"):
        stop = Calls("on_train_batch_end", lambda trainer, module: setattr(trainer, "should_stop", True))
        trainer = make_trainer(tmp_path, stop, min_epochs=2, max_epochs=3)
        compat.set_min_epochs(trainer, 0)
        fit(trainer)
        assert trainer.global_step == 1


def test_batches_started(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.fit_loop.total_batch_idx"):
        counts: list[int] = []
        note = Calls("on_train_batch_end", lambda trainer, module: counts.append(compat.batches_started(trainer)))
        fit(make_trainer(tmp_path, note, max_epochs=2))
        assert counts == list(range(1, 2 * BATCHES + 1))


def test_validation_intervals(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.check_val_every_n_epoch, Trainer.val_check_batch"):
        before: list[tuple[Any, Any]] = []

        def validate_in_first_epoch(trainer: pl.Trainer, module: Model) -> None:
            before.append(compat.validation_intervals(trainer))
            compat.set_validation_intervals(trainer, *((1, 2) if trainer.current_epoch == 0 else (5, BATCHES)))

        hook = Calls("on_train_batch_start", validate_in_first_epoch)
        model = fit(make_trainer(tmp_path, hook, max_epochs=2, check_val_every_n_epoch=5))
        assert before[:2] == [(5, BATCHES), (1, 2)] and model.validations == 2


def test_run_validation(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.fit_loop.epoch_loop.val_loop.run, Trainer.validating, Trainer.training"):
        stages: list[bool] = []

        def validate(trainer: pl.Trainer, module: Model) -> None:
            compat.run_validation(trainer)
            stages.append(trainer.training)

        note = Calls("on_validation_start", lambda trainer, module: stages.append(trainer.validating))
        trainer = make_trainer(tmp_path, note, Calls("on_train_epoch_end", validate), check_val_every_n_epoch=5)
        model = fit(trainer)
        assert stages == [True, True] and model.validations == 1
        assert float(trainer.callback_metrics["loss"]) == float(model.weight.detach())


def test_scheduler_entries(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.lr_scheduler_configs"):
        replaced: list[ConstantLR] = []

        def replace(trainer: pl.Trainer, module: Model) -> None:
            (entry,) = compat.scheduler_entries(trainer)
            entry.scheduler = ConstantLR(trainer.optimizers[0])
            replaced.append(entry.scheduler)

        fit(make_trainer(tmp_path, Calls("on_train_start", replace)))
        assert replaced[0].last_epoch == BATCHES


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_after_backward"])
def test_disable_hook(tmp_path: Path, hook: str) -> None:
    with interface(LIGHTNING, "_call_callback_hooks and _call_lightning_module_hook, which skip what is not callable"):
        callback, model = pl.Callback(), Model()
        for owner in (callback, model):
            compat.disable_hook(owner, hook)
        trainer = make_trainer(tmp_path, callback)
        trainer.fit(model, datamodule=Data())
        assert trainer.global_step == BATCHES


def test_process_rank() -> None:
    with interface("lightning-utilities", "rank_zero_only.rank"):
        assert compat.process_rank() == 0


def test_terminate_children(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Strategy.launcher, _SubprocessScriptLauncher.procs, _SubprocessScriptLauncher.kill"):
        compat.terminate_children(make_trainer(tmp_path))  # which starts no processes
        trainer = make_trainer(tmp_path, devices=2, strategy="ddp")
        launcher: Any = trainer.strategy.launcher
        with subprocess.Popen(["sleep", "60"]) as child:
            launcher.procs.append(child)
            try:
                compat.terminate_children(trainer)
                assert child.wait(10) == -15
            finally:
                child.kill()


def test_accelerator_is_available() -> None:
    with interface(LIGHTNING, "AcceleratorRegistry"):
        assert compat.accelerator_is_available("cpu")
        assert compat.accelerator_is_available("cuda") == torch.cuda.is_available()


def test_keys_of_checkpoints(tmp_path: Path) -> None:
    with interface(LIGHTNING, "Trainer.save_checkpoint, its keys"):
        fit(trainer := make_trainer(tmp_path))
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == BATCHES and list(checkpoint["state_dict"]) == ["weight"]
        assert len(checkpoint["lr_schedulers"]) == 1 and checkpoint["optimizer_states"][0]["state"]
        compat.clear_scheduler_states(checkpoint)
        compat.clear_optimizer_states(checkpoint)
        assert checkpoint["lr_schedulers"] == [] and checkpoint["optimizer_states"][0]["state"] == {}
        torch.save(checkpoint, tmp_path / "cleared.ckpt")
        fit(resumed := make_trainer(tmp_path, max_epochs=2), tmp_path / "cleared.ckpt")
        (state,) = resumed.optimizers[0].state.values()
        assert resumed.global_step == 2 * BATCHES and state["step"] == BATCHES


def test_resume_in_validation(tmp_path: Path) -> None:
    with interface(LIGHTNING, 'checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]'):
        file = saved_in(tmp_path, "on_validation_start", compat.resume_in_validation)
        assert hooks_after(file)[:3] == ["validation", "train", "validation"]


def test_resume_after_validation(tmp_path: Path) -> None:
    with interface(LIGHTNING, 'checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]'):
        file = saved_in(tmp_path / "1", "on_validation_end", compat.resume_after_validation)
        assert hooks_after(file)[:2] == ["train", "validation"]
        step = saved_in(tmp_path / "2", "on_train_batch_end", lambda checkpoint: None)
        saved = [torch.load(one, weights_only=True)["loops"]["fit_loop"] for one in (file, step)]
        assert saved[0]["epoch_loop.batch_progress"] == saved[1]["epoch_loop.batch_progress"]


def test_appending_writer(tmp_path: Path) -> None:
    with interface(LIGHTNING, "CSVLogger._experiment, ExperimentWriter._check_log_dir_exists and metrics_keys"):
        for step, values in enumerate(({"kl": 2.0, "loss": 0.5}, {"loss": 1.0})):
            logger = pl.loggers.CSVLogger(tmp_path, name="csv", version="")
            assert compat.appending_writer(logger) is compat.appending_writer(logger) is logger.experiment
            logger.log_metrics(values, step=step)
            logger.save()
        table = Path(logger.log_dir, compat.AppendingWriter.NAME_METRICS_FILE)
        assert table.read_text().split() == ["kl,loss,step", "2.0,0.5,0", ",1.0,1"]


class Bar(compat.RichBar):
    def describe_epoch(self, epoch: int) -> str:
        return f"part {epoch}"

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        self.set_metrics_column(Column(trainer, "", " ", ""))
        return super().configure_columns(trainer)


class Column(compat.MetricsColumn):
    def texts(self, metrics: Any) -> Iterator[str]:
        yield from (f"{name} is {value}" for name, value in metrics.items())


def test_rich_bar(tmp_path: Path) -> None:
    with interface(LIGHTNING, "RichProgressBar._console, _metric_component and _get_train_description"):
        bar = Bar()
        seen: list[tuple[str, int, str]] = []

        def look(trainer: pl.Trainer, module: Model) -> None:
            assert bar.progress is not None
            column = bar.progress.columns[-1]
            assert isinstance(column, Column)
            column.update({"loss": "small"})
            seen.append((bar.train_progress_bar.description, bar.width, column.render(bar.train_progress_bar).plain))

        fit(make_trainer(tmp_path, bar, Calls("on_train_epoch_end", look), enable_progress_bar=True))
        assert seen == [("part 0", bar.width, "loss is small")] and bar.width > 0


def test_metrics_column(tmp_path: Path) -> None:
    with interface(LIGHTNING, "MetricsTextColumn.update, _metrics and _generate_metrics_texts"):
        column = Column(make_trainer(tmp_path, pl.callbacks.RichProgressBar(), enable_progress_bar=True), "", " ", "")
        column.update({"loss": 1.5, "kl": 2})
        assert list(column._generate_metrics_texts()) == ["loss is 1.5", "kl is 2"]


def test_add_hparams(tmp_path: Path) -> None:
    with interface("torch", "torch.utils.tensorboard.SummaryWriter._get_file_writer"):
        with contextlib.closing(SummaryWriter(str(tmp_path))) as writer:
            add_hparams(writer, {"lr": 0.1}, "a run")
        assert len(list(tmp_path.iterdir())) == 1
        content = EventAccumulator(str(tmp_path)).Reload().summary_metadata
        assert set(content) == {"_hparams_/session_start_info"}
        session = HParamsPluginData.FromString(content["_hparams_/session_start_info"].plugin_data.content)
        assert session.session_start_info.group_name == "a run"


def test_add_image(tmp_path: Path) -> None:
    with interface("torch", "torch.utils.tensorboard.SummaryWriter._get_file_writer and summary.image"):
        with contextlib.closing(SummaryWriter(str(tmp_path))) as writer:
            add_image(writer, "pictures/a", torch.rand(3, 8, 12), 7, "what it shows")
        board = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
        (event,) = board.Images("pictures/a")
        assert (event.step, event.width, event.height) == (7, 12, 8)
        assert board.SummaryMetadata("pictures/a").summary_description == "what it shows"


def test_is_tensorboard_thread(tmp_path: Path) -> None:
    with interface("tensorboard", "_AsyncWriterThread"):
        before = set(threading.enumerate())
        with contextlib.closing(EventFileWriter(str(tmp_path))):
            (thread,) = set(threading.enumerate()) - before
            assert compat.is_tensorboard_thread(thread)
        assert not compat.is_tensorboard_thread(threading.main_thread()) and not compat.is_tensorboard_thread(None)


def test_plateau_state() -> None:
    with interface("torch", "attributes of torch.optim.lr_scheduler.ReduceLROnPlateau"):

        def make() -> ReduceLROnPlateau:
            return ReduceLROnPlateau(torch.optim.SGD([torch.zeros(1)], lr=1.0), patience=1, cooldown=2, factor=0.5)

        whole, resumed = make(), make()
        for loss in (1.0, 2.0, 3.0):
            whole.step(loss)
        compat.set_plateau_state(resumed, compat.plateau_state(whole))
        resumed.optimizer.param_groups[0]["lr"] = whole.optimizer.param_groups[0]["lr"]
        for _ in range(6):
            whole.step(4.0)
            resumed.step(4.0)
            assert resumed.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]
        options = {"factor", "min_lrs", "patience", "cooldown", "mode", "threshold", "threshold_mode", "eps"}
        rest = whole.state_dict().keys() - compat.plateau_state(whole).keys() - options
        assert rest <= {"default_min_lr", "mode_worse", "_last_lr"}, "state that plateau_state does not hold"


def test_mark_updated() -> None:
    with interface("torchmetrics", "Metric._update_count"):
        metric = MeanMetric()
        compat.mark_updated(metric)
        assert metric.update_called
        metric.compute()  # a warning would be an error here


def test_trial_of() -> None:
    optuna = pytest.importorskip("optuna")
    with interface("optuna", "FrozenTrial._trial_id"):
        study = optuna.create_study()
        _, second = study.ask(), study.ask()
        compat.trial_of(study, second.number).report(0.5, step=1)
        assert study.trials[second.number].intermediate_values == {1: 0.5}
