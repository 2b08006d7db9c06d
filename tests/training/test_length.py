"""The length of training: explicit options take precedence, and a budget is raised to enough steps on few images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.callbacks import GradientAccumulationScheduler

from nelbo.errors import ConfigError
from nelbo.training.length import Length, epochs_of, steps_of, training_length

BUDGET = {"epochs": 12, "min_steps": 50}


def length(images: int = 60, processes: int = 1, budget: Any = BUDGET, callbacks: Any = (), **trainer: Any) -> Length:
    """Return the length of training with batches of ten images in each process."""
    options = {"max_epochs": None, "check_val_every_n_epoch": 1, "limit_train_batches": 1.0, **trainer}
    data: Any = SimpleNamespace(num_batches=lambda world_size: -(-images // (10 * world_size)))
    factor = options.get("accumulate_grad_batches", 1)
    lightning: Any = SimpleNamespace(world_size=processes, callbacks=callbacks, accumulate_grad_batches=factor)
    return training_length({"trainer": options, "budget": budget}, data, lightning)


def test_epochs_of_a_budget_are_raised_where_they_make_too_few_steps() -> None:
    few = length(images=30)
    assert (few.epochs, few.steps, few.raised_from) == (17, 51, 12)
    assert "training for 17 epochs (51 steps): with so few images the budget's 12 epochs make fewer steps" in few.note
    enough = length(images=60)
    assert (enough.epochs, enough.steps, enough.raised_from, enough.note) == (12, 72, None, "")
    assert length(images=60, processes=2).epochs == 17  # two processes have batches of twice the size together
    assert length(images=60, accumulate_grad_batches=2).steps == 51


def test_explicit_lengths_are_not_raised() -> None:
    assert length(images=30, max_epochs=12).steps == 36
    assert length(images=30, max_epochs=12).note == ""
    assert length(images=30, budget={**BUDGET, "min_steps": 0}).epochs == 12
    assert length(images=30, budget={"epochs": 12}).epochs == 12  # as in configs older than this key
    assert length(images=30, limit_train_batches=2).steps == length(images=30, limit_train_batches=0.7).steps == 24
    assert length(images=30, max_steps=5).steps == 5


@pytest.mark.parametrize(
    ("options", "epochs", "steps"),
    [
        ({"max_steps": 570}, 95, 570),  # without max_epochs, the budget's epochs do not apply
        ({"max_steps": 571, "max_epochs": -1}, 96, 571),
        ({"max_steps": 571, "max_epochs": 100}, 96, 571),
        ({"max_steps": 571, "max_epochs": 90}, 90, 540),
        ({"max_steps": -1, "max_epochs": 90}, 90, 540),
        ({"max_steps": 7, "max_epochs": -1, "accumulate_grad_batches": 4}, 4, 7),
        ({"max_epochs": 3, "limit_train_batches": 0.5}, 3, 9),
        ({"max_epochs": 3, "limit_train_batches": 4}, 3, 12),
        ({"max_epochs": 3, "limit_train_batches": 1}, 3, 3),
    ],
)
def test_steps_and_epochs(options: dict[str, Any], epochs: int, steps: int) -> None:
    result = length(**options)
    assert (result.epochs, result.steps) == (epochs, steps)


def test_accumulation_that_changes_with_the_epoch() -> None:
    factors = {0: 1, 2: 4, 5: 6}
    assert [steps_of(epochs, 6, factors) for epochs in range(8)] == [0, 6, 12, 14, 16, 18, 19, 20]
    assert [epochs_of(steps, 6, factors) for steps in (1, 6, 7, 12, 13, 14, 15, 18, 19, 20)] == [
        *(1, 1, 2, 2, 3, 3, 4, 5, 6, 7),
    ]
    scheduled = GradientAccumulationScheduler({2: 4, 5: 6})
    assert length(max_steps=20, callbacks=[scheduled]).epochs == 7


@pytest.mark.parametrize("options", [{"max_steps": 17}, {"max_epochs": 9, "max_steps": 17}])
def test_min_epochs_beyond_the_end_is_refused(options: dict[str, Any]) -> None:
    assert length(min_epochs=2, **options).epochs == 3
    with pytest.raises(ConfigError, match="trainer.min_epochs=3: training ends after 17 steps, 2 whole epochs"):
        length(min_epochs=3, **options)


@pytest.mark.parametrize(
    ("options", "steps", "whole", "end"),
    [
        ({"max_epochs": 20}, 120, 20, "trainer.max_epochs=20"),
        ({}, 72, 12, "budget.epochs=12"),
        ({"images": 30}, 51, 17, "budget.min_steps=50"),
        ({"max_epochs": 2, "max_steps": 100}, 12, 2, "trainer.max_epochs=2"),
        ({"max_epochs": -1, "max_steps": 17}, 17, 2, "trainer.max_steps=17"),
    ],
)
def test_min_steps_beyond_the_end_is_refused(options: dict[str, Any], steps: int, whole: int, end: str) -> None:
    """Lightning would end at the last epoch without a message."""
    assert length(min_steps=steps, **options).steps == steps
    message = f"trainer.min_steps={steps + 1}: training ends after {steps} steps, {whole} whole epochs, by {end}$"
    with pytest.raises(ConfigError, match=message):
        length(min_steps=steps + 1, **options)


@pytest.mark.parametrize(
    ("interval", "every_epoch", "fits"),
    [(4, 1, True), (3, 1, False), (0.5, 1, False), (1.0, 1, True), (6, 1, True), (6, None, True), (8, None, False)],
)
def test_validations_within_an_update_are_refused(interval: float, every_epoch: int | None, fits: bool) -> None:
    options = {"val_check_interval": interval, "check_val_every_n_epoch": every_epoch, "max_epochs": 2}
    if fits:
        assert length(accumulate_grad_batches=2, **options).steps == 6
    else:
        factor = 4 if every_epoch is None else 2
        message = f"within an update of {factor} batches; use a multiple of {factor}"
        with pytest.raises(ConfigError, match=message):
            length(accumulate_grad_batches=factor, **options)
