"""The guard: it stops a diverged run before the update, or skips updates with large gradients."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from nelbo.checkpoints.container import read_plain
from nelbo.data.loader import Batches
from nelbo.errors import ConfigError
from nelbo.finished.replay import replay
from nelbo.numerics import devices
from nelbo.training.callbacks import Guard, TrainingScalars, guard
from tests.helpers.diverging import (
    Change,
    Poke,
    Training,
    infinite_gradient,
    infinite_loss,
    spoilt_decoder,
    spoilt_encoder,
)
from tests.helpers.guards import ONE_IMAGE, divergence_message


@pytest.fixture(autouse=True, params=["at once", "late"])
def checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test holds if the guard reads gradients at once, as on the CPU, and if it reads them a step later."""
    if request.param == "late":
        monkeypatch.setattr(devices, "reads_freely", lambda device: False)
    return str(request.param)


def not_finite(content: Any) -> list[torch.Tensor]:
    if isinstance(content, torch.Tensor):
        return [] if content.isfinite().all() else [content]
    inside = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for value in inside for tensor in not_finite(value)]


def logged(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "log" / "metrics.csv").read_text().splitlines()))


def bundle_of(folder: Path) -> tuple[dict[str, Any], Path]:
    (file,) = (folder / "crash").iterdir()
    return read_plain(file), file


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_infinite_loss_stops_before_the_update_and_leaves_a_bundle(tmp_path: Path) -> None:
    """Step 7 is the second batch of the second epoch; the checkpoint of the first epoch is finite."""
    poke = Poke(infinite_loss, 7)
    saved = pl.callbacks.ModelCheckpoint(tmp_path / "saved", filename="first", save_on_train_epoch_end=True)
    training = Training(tmp_path, callbacks=(poke, saved))
    message = divergence_message(training)
    assert message.startswith("training diverged at step 7 (epoch 2, batch 2): reconstruction is inf; lower optimizer")
    assert same(training.module.state_dict(), poke.before)
    bundle, file = bundle_of(tmp_path)
    assert message.endswith("crash/step-000007.pt") and file.name == "step-000007.pt"
    assert (bundle["step"], bundle["epoch"], bundle["batch"]) == (7, 1, 1)
    assert same(bundle["state_dict"], poke.before) and not not_finite(bundle)
    assert bundle["failure"]["terms"]["reconstruction"] == math.inf
    assert bundle["config"] == training.guard.config and bundle["provenance"] == training.data.provenance()
    x = training.data.present("train", training.data.splits["train"].__getitems__(bundle["indices"]), 1).x
    assert torch.equal(x, poke.x)
    parameters = sum(value.numel() * 4 for value in bundle["state_dict"].values())
    assert file.stat().st_size < parameters + 20_000
    checkpoint = torch.load(tmp_path / "saved" / "first.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert not not_finite([checkpoint["state_dict"], checkpoint["optimizer_states"]])


CODES = {
    "categorical": ("posterior=categorical", "prior=categorical"),
    "hard": ("posterior=categorical", "prior=uniform", "model.posterior.straight_through=true"),
    "codebook": ("posterior=vector_quantized", "prior=categorical", "objective=vq_vae"),
}


@pytest.mark.parametrize("name", CODES)
def test_logits_that_are_not_finite_are_reported_by_the_guard_alone(tmp_path: Path, name: str) -> None:
    """Classes are drawn from such logits in training and in validation, without another error."""

    class Spoil(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            with torch.no_grad():
                spoilt_encoder(pl_module)

    message = divergence_message(Training(tmp_path / "training", *CODES[name], callbacks=(Poke(spoilt_encoder, 2),)))
    assert message.startswith("training diverged at step 2 (epoch 1, batch 3): reconstruction is nan, ")
    message = divergence_message(Training(tmp_path / "validation", *CODES[name], callbacks=(Spoil(),)))
    assert message.startswith("training diverged by step 6 (epoch 1): val/objective is nan; lower optimizer.lr")


@pytest.mark.parametrize("clipping", [(), ("trainer.gradient_clip_val=1.0",)], ids=["unclipped", "clipped"])
def test_gradients_that_are_not_finite_stop_a_run_with_a_finite_loss(tmp_path: Path, clipping: tuple[str, ...]) -> None:
    """Clipping by the norm would set all others to zero."""
    poke = Poke(infinite_gradient, 3)
    training = Training(tmp_path, *ONE_IMAGE, *clipping, callbacks=(poke,))
    message = divergence_message(training)
    assert "at step 3 (epoch 1, batch 4): the gradient norm of model.likelihood.log_sigma is not finite; " in message
    assert same(training.module.state_dict(), poke.before)
    bundle, _ = bundle_of(tmp_path)
    assert bundle["failure"]["gradients"] == ["model.likelihood.log_sigma"] and not not_finite(bundle)
    assert math.isfinite(bundle["failure"]["loss"])


def infinite_kl_at(pixel: int) -> Change:
    """Return a change that makes the KL infinite for images in which a pixel is not 0: their code is 1e20."""

    def change(module: Any) -> None:
        encoder, posterior = module.model.encoder.layers[1], module.model.posterior.project.layers[0]
        for value in (encoder.weight, encoder.bias, posterior.weight, posterior.bias):
            value.zero_()
        encoder.weight[0, pixel] = 100
        posterior.weight[0, 0] = 1e20

    return change


def test_the_batch_of_a_step_that_is_not_finite_is_named_and_replayed(tmp_path: Path) -> None:
    """A step has four batches of one image each; only the second batch of the second step has the chosen pixel lit."""
    training = Training(tmp_path, *ONE_IMAGE, "trainer.accumulate_grad_batches=4")
    order = Batches(len(training.data.splits["train"]), 1, shuffle=True, seed=training.data.order_seed).batches()
    images = training.data.splits["train"].__getitems__(torch.cat(order[4:8]))[0].flatten(1)
    lit = (images > 0).int()
    pixel = int((lit == torch.tensor([[0], [1], [0], [0]])).all(dim=0).nonzero()[0])
    poke = Poke(infinite_kl_at(pixel), 1)
    training = Training(tmp_path, *ONE_IMAGE, "trainer.accumulate_grad_batches=4", callbacks=(poke,))
    message = divergence_message(training)
    assert "at step 1 (epoch 1, batch 6, 2 of 4 in this step): kl is inf; lower optimizer.lr" in message
    bundle, file = bundle_of(tmp_path)
    assert bundle["batch"] == 5 and bundle["indices"].tolist() == order[5].tolist()
    assert replay(file).is_exact and same(training.module.state_dict(), poke.before)


def test_a_loss_is_recorded_undivided_if_steps_have_several_batches(tmp_path: Path) -> None:
    training = Training(tmp_path, "trainer.accumulate_grad_batches=3", callbacks=(Poke(spoilt_decoder, 1),))
    message = divergence_message(training)
    assert "at step 1 (epoch 1, batch 4, 1 of 3 in this step): the gradient norm of model.encoder" in message
    bundle, _ = bundle_of(tmp_path)
    assert bundle["failure"]["loss"] == bundle["failure"]["terms"]["nelbo"]


def test_a_step_of_several_batches_is_skipped_as_a_whole(tmp_path: Path) -> None:
    """This includes the effect of its first batch on the running variance of an optimal sigma."""
    options = ("likelihood=gaussian_optimal", "trainer.accumulate_grad_batches=2")
    training = Training(tmp_path, *options, skip_above=1e-6)
    before = {name: value.clone() for name, value in training.module.state_dict().items()}
    training.fit()
    assert training.guard.skipped == 6 and same(training.module.state_dict(), before)


def test_buffers_that_the_forward_pass_changed_are_restored(tmp_path: Path) -> None:
    """The running variance of an optimal sigma has been updated with the infinite error by then."""
    poke = Poke(infinite_loss, 2)
    training = Training(tmp_path, "likelihood=gaussian_optimal", callbacks=(poke,))
    assert "model.likelihood.variance" in training.module.state_dict()
    divergence_message(training)
    assert same(training.module.state_dict(), poke.before)
    assert same(bundle_of(tmp_path)[0]["state_dict"], poke.before)


def test_a_run_whose_bundle_cannot_be_written_stops_and_reports_it(tmp_path: Path) -> None:
    (tmp_path / "crash").write_text("a file instead of a folder")
    message = divergence_message(Training(tmp_path, callbacks=(Poke(infinite_loss, 1),)))
    assert "reconstruction is inf" in message and "the bundle cannot be written" in message


def test_a_diverged_last_update_of_an_epoch_is_detected_by_validation(tmp_path: Path) -> None:
    class Spoil(pl.Callback):
        def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            with torch.no_grad():
                infinite_loss(pl_module)

    saved = pl.callbacks.ModelCheckpoint(tmp_path / "saved", monitor="val/objective", save_last=True)
    message = divergence_message(Training(tmp_path, callbacks=(Spoil(), saved)))
    assert message.startswith("training diverged by step 6 (epoch 1): val/objective is inf; lower optimizer.lr")
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("part", ["weights", "optimiser"])
def test_no_checkpoint_of_values_that_are_not_finite_is_written(tmp_path: Path, part: str) -> None:
    """This holds without a validation set too."""

    class Spoil(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
            parameter = pl_module.model.likelihood.log_sigma
            tensor = parameter.data if part == "weights" else trainer.optimizers[0].state[parameter]["exp_avg_sq"]
            tensor.fill_(math.nan)

    saved = pl.callbacks.ModelCheckpoint(tmp_path / "saved", save_on_train_epoch_end=True)
    message = divergence_message(Training(tmp_path, "trainer.limit_val_batches=0", callbacks=(Spoil(), saved)))
    name = "state_dict.model.likelihood.log_sigma" if part == "weights" else "exp_avg_sq"
    assert "by step 6 (epoch 1): " in message and f"{name} is not finite; lower" in message
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_guard_changes_nothing_in_a_healthy_run(tmp_path: Path) -> None:
    with_guard = Training(tmp_path / "guarded").fit()
    skipping = Training(tmp_path / "skipping", skip_above=1e9).fit()
    without = Training(tmp_path / "without", guard=False).fit()
    assert same(with_guard.module.state_dict(), without.module.state_dict())
    assert same(skipping.module.state_dict(), without.module.state_dict()) and skipping.guard.skipped == 0


class Snapshots(pl.Callback):
    """Records the gradient norm and rate of each update and whether it changed anything; called before the guard."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, bool, float]] = []

    @staticmethod
    def _now(trainer: pl.Trainer, pl_module: Any) -> dict[str, torch.Tensor]:
        state = trainer.optimizers[0].state_dict()["state"]
        moments = {f"{index} {key}": value.clone() for index, part in state.items() for key, value in part.items()}
        return moments | {name: value.clone() for name, value in pl_module.state_dict().items()}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.before = self._now(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.norm = torch.nn.utils.get_total_norm([p.grad for p in pl_module.parameters()]).item()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        unchanged = same(self.before, self._now(trainer, pl_module))
        self.steps.append((self.norm, unchanged, trainer.optimizers[0].param_groups[0]["lr"]))


def test_updates_above_the_bound_are_skipped_and_counted(tmp_path: Path) -> None:
    """In two steps the images are far from the model's predictions."""
    first = Snapshots()
    Training(tmp_path / "first", callbacks=(first,)).fit()
    bound = 2 * max(norm for norm, _, _ in first.steps)
    saved = pl.callbacks.ModelCheckpoint(tmp_path / "saved", save_last=True, save_on_train_epoch_end=True)
    snapshots, spike, undo = Snapshots(), Poke(large_loss, 3, 8), Poke(small_again, undo=small_again)
    callbacks = (spike, snapshots, undo, TrainingScalars(), saved)
    training = Training(tmp_path, "trainer.log_every_n_steps=1", callbacks=callbacks, skip_above=bound).fit()
    above = [norm > bound for norm, _, _ in snapshots.steps]
    assert 0 < sum(above) < 12 and training.guard.skipped == sum(above)
    assert [unchanged for _, unchanged, _ in snapshots.steps] == above
    # The schedule advances in skipped steps too: the learning rates are those without a bound.
    assert [rate for _, _, rate in snapshots.steps] == [rate for _, _, rate in first.steps]
    assert training.trainer.global_step == 12
    rows = logged(tmp_path)
    counts = {int(row["step"]): float(row["train/skipped_steps"]) for row in rows if row["train/skipped_steps"]}
    assert [counts[step] for step in range(1, 13)] == [sum(above[:step]) for step in range(1, 13)]
    # A resumed run continues the count.
    state = torch.load(tmp_path / "saved" / "last.ckpt", weights_only=True)["callbacks"]["Guard"]
    resumed = Guard(tmp_path, {}, skip_above=bound)
    resumed.load_state_dict(state)
    assert resumed.skipped == sum(above)


def test_the_count_is_logged_at_the_end_of_an_epoch_without_scalars_too(tmp_path: Path) -> None:
    Training(tmp_path, callbacks=(Poke(infinite_loss, 3, undo=small_again),), skip_above=1e9).fit()
    rows = logged(tmp_path)
    assert [float(row["train/skipped_steps"]) for row in rows if row["train/skipped_steps"]] == [1, 1]


class Sizes(pl.callbacks.Callback):
    """Records a norm of the gradient before each update, before it is clipped."""

    def __init__(self, order: float) -> None:
        self.order, self.values = order, list[float]()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.values.append(torch.nn.utils.get_total_norm([p.grad for p in pl_module.parameters()], self.order).item())


@pytest.mark.parametrize(("algorithm", "order"), [("norm", 2.0), ("value", math.inf)])
def test_clipped_updates_are_counted(tmp_path: Path, algorithm: str, order: float) -> None:
    clipping = f"trainer.gradient_clip_algorithm={algorithm}"
    first = Sizes(order)
    Training(tmp_path / "first", callbacks=(first,)).fit()
    bound = sorted(first.values)[6]
    sizes, chosen = Sizes(order), (clipping, f"trainer.gradient_clip_val={bound}", "trainer.log_every_n_steps=1")
    training = Training(tmp_path, *chosen, callbacks=(sizes, TrainingScalars())).fit()
    above = [size > bound for size in sizes.values]
    assert 0 < sum(above) < 12 and training.guard.clipped == sum(above)
    assert training.guard.counts(training.trainer) == {"clipped_steps": sum(above)}
    rows = [row for row in logged(tmp_path) if row["train/clipped_steps"]]
    counts = {int(row["step"]): float(row["train/clipped_steps"]) for row in rows}
    assert [counts[step] for step in range(1, 13)] == [sum(above[:step]) for step in range(1, 13)]


def test_clipping_and_skipping_are_counted_separately(tmp_path: Path) -> None:
    bound = 1e-3  # below every norm
    pokes = Poke(infinite_loss, 3, 8, undo=small_again)
    training = Training(tmp_path, f"trainer.gradient_clip_val={bound}", callbacks=(pokes,), skip_above=1e9).fit()
    assert training.guard.counts(training.trainer) == {"skipped_steps": 2, "clipped_steps": 10}
    saved = training.guard.state_dict()
    resumed = Guard(tmp_path, {}, skip_above=1e9)
    resumed.load_state_dict(saved)
    assert resumed.counts(training.trainer) == training.guard.counts(training.trainer)
    saved.pop("clipped")  # as in checkpoints of earlier versions
    resumed.load_state_dict(saved)
    assert resumed.clipped == 0


def large_loss(module: Any) -> None:
    module.model.likelihood.project.layers[0].bias.fill_(1e4)


def small_again(module: Any) -> None:
    module.model.likelihood.project.layers[0].bias.clamp_(-1, 1)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_optimal"])
def test_a_step_that_is_not_finite_is_skipped_and_the_run_completes(tmp_path: Path, likelihood: str) -> None:
    pokes = Poke(infinite_loss, 3, 8, undo=small_again)
    training = Training(tmp_path, f"likelihood={likelihood}", callbacks=(pokes,), skip_above=1e9).fit()
    assert training.guard.skipped == 2 and training.guard.in_a_row == 0
    assert not not_finite(training.module.state_dict())
    assert not (tmp_path / "crash").exists()


def test_too_many_skipped_updates_in_a_row_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_SKIPPED_IN_A_ROW", 5)
    message = divergence_message(
        Training(tmp_path, "trainer.limit_val_batches=0", callbacks=(Poke(infinite_loss, 3),), skip_above=1e9)
    )
    assert "at step 7 (epoch 2, batch 2): reconstruction is inf" in message
    assert bundle_of(tmp_path)[0]["step"] == 7
    with pytest.raises(ConfigError, match=r"guard.skip_above=1e-06: the last 5 updates were all above it.*increase it"):
        Training(tmp_path / "all", skip_above=1e-6).fit()


def test_a_hundred_skipped_updates_in_a_row_are_too_many(tmp_path: Path) -> None:
    overrides = ["trainer.limit_val_batches=0", "trainer.max_epochs=20"]
    with pytest.raises(ConfigError, match="the last 100 updates were all above it"):
        Training(tmp_path, *overrides, skip_above=1e-6).fit()


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "much", True])
def test_a_bound_must_be_a_positive_number(value: Any) -> None:
    with pytest.raises(ConfigError, match="skip_above="):
        Guard(Path(), {}, skip_above=value)
