"""The exponential moving average of the weights: its values, and who uses it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import nelbo
from nelbo.checkpoints.record import read_checkpoint, weights_of
from nelbo.config.checks import check
from nelbo.config.identity import identity
from nelbo.data import digits
from nelbo.errors import ConfigError, DamagedCheckpoint
from nelbo.finished.run import FinishedRun
from nelbo.numerics import devices
from nelbo.numerics.randomness import isolated
from nelbo.training import EMA
from nelbo.training.callbacks import Pictures, pictures
from nelbo.training.module import EVALUATION_SEED
from nelbo.training.weights import start_from
from tests.helpers.averages import Follow, values
from tests.helpers.diverging import Poke, Training, infinite_loss, make_config
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL

CLOSE = 1e-6  # absolute, in float32, for weights of up to 1 and a dozen updates


def averaged(folder: Path, *overrides: str, **options: Any) -> tuple[Training, Follow]:
    """Train with an average of largest decay 0.3, which it reaches after three updates, beside one that follows it."""
    follow = Follow(0.3)
    callbacks = (*options.pop("callbacks", ()), follow)
    chosen = ("averaging=ema", "averaging.decay=0.3", "scheduler=constant", "optimizer.lr=0.01", *overrides)
    return Training(folder, *chosen, callbacks=callbacks, **options).fit(), follow


def test_the_decay_rises_to_its_largest_value() -> None:
    weight, expected, decays = nn.Parameter(torch.zeros(3)), torch.zeros(3, dtype=torch.float64), []
    average = EMA({"weight": weight}, decay=0.5)
    for _ in range(20):
        decays.append(average.next_decay)
        weight.data.copy_(torch.randn(3))
        average.update()
        expected = decays[-1] * expected + (1 - decays[-1]) * weight.detach()
    assert decays == pytest.approx([min(0.5, (1 + n) / (10 + n)) for n in range(20)]) and max(decays) == 0.5
    raw = weight.detach().clone()
    with average.in_use():
        torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=CLOSE)
        with average.in_use():  # already in use
            torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=CLOSE)
    assert torch.equal(weight, raw)


def test_an_update_that_was_skipped_on_the_device_is_not_averaged() -> None:
    first, second = (nn.Parameter(torch.zeros(3)) for _ in range(2))
    one, other = EMA({"weight": first}, decay=0.5), EMA({"weight": second}, decay=0.5)
    for skipped in (0, 1, 0, 1, 1, 0):
        first.data.copy_(torch.randn(3))
        second.data.copy_(first)
        one.update(torch.tensor(float(skipped)))
        if skipped:
            one.updates -= 1  # as the guard does when it reads the flag
        else:
            other.update()
    with one.in_use(), other.in_use():
        torch.testing.assert_close(first, second)


def test_a_parameter_with_two_names_is_averaged_once_and_saved_under_both() -> None:
    layer = nn.Linear(2, 2, bias=False)
    tied = nn.ModuleDict({"one": layer, "other": layer})
    average = EMA(dict(tied.named_parameters(remove_duplicate=False)), decay=0.9)
    start = layer.weight.detach().clone()
    layer.weight.data += 1
    average.update()
    checkpoint: dict[str, Any] = {"state_dict": tied.state_dict()}
    average.add_to(checkpoint)
    for name in ("one.weight", "other.weight"):
        torch.testing.assert_close(checkpoint["state_dict"][name], start + 0.9, rtol=0, atol=CLOSE)
        torch.testing.assert_close(checkpoint["averaging"]["raw"][name], start + 1, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("overrides", "updates"),
    [
        ((), 12),
        (("trainer.accumulate_grad_batches=4",), 4),  # of six batches, the last two make an update of their own
        (("objective=factor",), 12),  # the discriminator is averaged too
        (("trainer.gradient_clip_val=0.1", "trainer.val_check_interval=0.5"), 12),
    ],
    ids=["every step", "several batches", "an objective's parameters", "validations within epochs"],
)
def test_validation_uses_the_average_and_training_ends_with_it(
    tmp_path: Path, overrides: tuple[str, ...], updates: int
) -> None:
    training, follow = averaged(tmp_path, *overrides)
    assert follow.updates == updates and follow.error < CLOSE
    assert training.module.average is not None and training.module.average.updates == updates
    now = values(training.module)
    assert max((now[name] - follow.raw[name]).abs().max() for name in now) > 1e-3  # of another size than the error


def test_training_is_the_same_with_and_without_an_average(tmp_path: Path) -> None:
    _, follow = averaged(tmp_path / "with")
    without = values(Training(tmp_path / "without", "scheduler=constant", "optimizer.lr=0.01").fit().module)
    assert all(torch.equal(value, without[name]) for name, value in follow.raw.items())


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_updates_that_the_guard_skips_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    monkeypatch.setattr(devices, "reads_freely", lambda device: not late)
    poke = Poke(infinite_loss, 3, 8, undo=lambda module: module.model.likelihood.project.layers[0].bias.clamp_(-1, 1))
    training, follow = averaged(tmp_path, callbacks=(poke,), skip_above=1e9)
    assert training.guard.skipped == 2 and training.module.average is not None
    assert training.module.average.updates == 10


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an average of its weights, and with a running variance, which is a buffer."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    chosen = ["averaging=ema", "averaging.decay=0.5", "likelihood=gaussian_optimal", "trainer.max_epochs=2"]
    chosen += ["scheduler=constant", "optimizer.lr=0.01"]
    done = forked("train.py", *SMALL, *chosen, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_checkpoint_has_both_kinds_of_weights_and_a_loaded_model_the_average(run: Path) -> None:
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    metrics = json.loads((run / "metrics.json").read_text())
    assert checkpoint["averaging"]["updates"] == checkpoint["global_step"] == metrics["checkpoint_step"]
    learned = [name for name in checkpoint["state_dict"] if name != "model.likelihood.variance"]
    assert list(checkpoint["averaging"]["raw"]) == learned
    tested = {}
    for kind in ("averaged", "raw"):
        model = nelbo.load(run, weights=kind)
        expected = weights_of(checkpoint, kind)
        assert all(torch.equal(value, expected[f"model.{name}"]) for name, value in model.state_dict().items())
        with torch.no_grad(), isolated(EVALUATION_SEED):
            parts = (digits().test.images.float() / 255).split(256)
            tested[kind] = -torch.cat([model.trace(part).log_px[0] for part in parts]).mean().item()
    assert tested["averaged"] == pytest.approx(metrics["test/reconstruction"], abs=1e-4)
    assert tested["raw"] != pytest.approx(metrics["test/reconstruction"], abs=0.1)
    opened = FinishedRun.open(run).model.state_dict()
    assert all(torch.equal(value, opened[name]) for name, value in nelbo.load(run).state_dict().items())
    with pytest.raises(ConfigError, match="^weights=both: must be one of averaged, raw$"):
        nelbo.load(run, weights="both")


def test_a_run_starts_from_the_average_of_another(run: Path, tmp_path: Path) -> None:
    module = Training(tmp_path, "likelihood=gaussian_optimal", "model.encoder.hidden=[200,200]").module
    start_from(module, str(run))
    state = read_checkpoint(run / "checkpoints" / "best.ckpt")["state_dict"]
    name = "model.encoder.layers.1.weight"
    assert torch.equal(module.state_dict()[name], state[name])


@pytest.mark.parametrize(
    "change",
    [
        lambda averaging: averaging.pop("raw"),
        lambda averaging: averaging.update(updates=-1),
        lambda averaging: averaging.update(raw=[]),
        lambda averaging: averaging["raw"].update({"model.likelihood.variance": torch.zeros(3)}),
        lambda averaging: averaging["raw"].update({"nothing": torch.zeros(3)}),
        lambda averaging: averaging["raw"].update({"model.likelihood.variance": 3}),
    ],
)
def test_raw_weights_that_do_not_fit_are_refused(run: Path, tmp_path: Path, change: Any) -> None:
    checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
    change(checkpoint["averaging"])
    torch.save(checkpoint, tmp_path / "changed.ckpt")
    with pytest.raises(DamagedCheckpoint, match="its raw weights do not fit its averaged ones"):
        nelbo.load(tmp_path / "changed.ckpt")


def test_a_resumed_run_may_stop_to_average_and_begin_again(run: Path, tmp_path: Path) -> None:
    """It goes on from the raw weights, which such a small rate leaves as they are."""
    raw = weights_of(read_checkpoint(run / "checkpoints" / "last.ckpt"), "raw")
    shutil.copytree(run, tmp_path / "run")
    common = [
        *SMALL,
        "scheduler=constant",
        "likelihood=gaussian_optimal",
        "resume_changes=[averaging,optimizer.lr]",
        "optimizer.lr=1e-30",
    ]
    for epochs, averaging in ((3, "none"), (4, "ema")):
        chosen = [f"averaging={averaging}", f"trainer.max_epochs={epochs}", f"hydra.run.dir={tmp_path / 'run'}"]
        done = forked("train.py", *common, *chosen, "resume=auto")
        assert done.returncode == 0, done.stderr
        checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
        assert checkpoint.get("averaging", {}).get("updates") == (6 if averaging == "ema" else None)
        for kind in ("averaged", "raw"):
            now = weights_of(checkpoint, kind)
            assert all(torch.equal(now[name], raw[name]) for name in raw if name != "model.likelihood.variance")


def test_pictures_show_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(pictures, "draws", lambda trainer: True)
    monkeypatch.setattr(pictures, "pictures", lambda model, data, device: seen.append(values(model)) or [])
    training, follow = averaged(tmp_path, callbacks=(Pictures(every_n_epochs=1),))
    assert len(seen) == 2
    for name, value in seen[-1].items():
        torch.testing.assert_close(value.double(), follow.averages[f"model.{name}"], rtol=0, atol=CLOSE)


def test_two_processes_have_the_same_average(tmp_path: Path) -> None:
    target = f"_target_:tests.helpers.averages.Follow,decay:0.9,file:{tmp_path / 'rank'}"
    two = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=128", "trainer.max_epochs=1"]
    chosen = ["averaging=ema", "averaging.decay=0.9", f"+callbacks.follow={{{target}}}", "allow_targets=[tests.]"]
    done = forked("train.py", *SMALL, *two, *chosen, f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert ranks[0] == ranks[1] and ranks[0]["updates"] == ranks[0]["of_module"] == 6 and ranks[0]["error"] < CLOSE


def test_a_module_can_be_trained_again(tmp_path: Path) -> None:
    """As in a notebook: the second training goes on from the raw weights."""
    training, follow = averaged(tmp_path)
    raw = follow.raw
    starts: list[dict[str, torch.Tensor]] = []

    class Start(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            starts.append(values(pl_module))

    again = pl.Trainer(max_epochs=1, callbacks=[Start()], logger=False, enable_checkpointing=False, accelerator="cpu")
    again.fit(training.module, datamodule=training.data)
    assert all(torch.equal(value, raw[name]) for name, value in starts[0].items())


def test_averaging_is_off_by_default_and_is_part_of_the_identity() -> None:
    config = make_config()
    assert config["averaging"] == {}
    assert identity({key: value for key, value in config.items() if key != "averaging"}) == identity(config)
    assert identity(make_config("averaging=ema")) != identity(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("averaging.decay=1",), "averaging.decay=1: must be below 1, at which the average would never change"),
        (("averaging.decay=-0.1",), "averaging.decay=-0.1: must be a finite number of at least 0"),
        (("averaging._partial_=false",), "averaging._partial_=false: must be true"),
        (
            ("+callbacks.swa={_target_:pytorch_lightning.callbacks.EMAWeightAveraging}",),
            "callbacks.swa._target_=pytorch_lightning.callbacks.EMAWeightAveraging: averages the weights too",
        ),
    ],
)
def test_an_average_that_cannot_be_kept_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        check(make_config("averaging=ema", *overrides))
