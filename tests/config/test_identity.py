"""Which changes of a config change the identity of a run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from nelbo.config.identity import identity

PLAIN: dict[str, Any] = {
    "seed": 1,
    "threads": None,
    "trial": None,
    "objective": {"beta": 1.0},
    "trainer": {"accelerator": "auto", "strategy": "auto", "devices": 1},
    "data": {"num_workers": 0, "batch_size": 64, "root": "here"},
    "model": {"encoder": {"depth": 2, "checkpoint_activations": False}, "decoder": None},
}


def changed(**keys: object) -> dict[str, Any]:
    """Return a copy of `PLAIN` with other values; `__` in a name stands for the dot of a key."""
    plain = copy.deepcopy(PLAIN)
    for key, value in keys.items():
        *groups, last = key.split("__")
        holder = plain
        for group in groups:
            holder = holder[group]
        holder[last] = value
    return plain


@pytest.mark.parametrize(
    "same",
    [
        {"trainer__accelerator": "cpu"}, {"trainer__strategy": "ddp"}, {"data__num_workers": 4}, {"threads": 2},
        {"trial": {"number": 3}}, {"objective__beta": 1}, {"model__encoder__checkpoint_activations": True},
    ],
)  # fmt: skip
def test_facts_of_the_machine_do_not_change_the_identity(same: dict[str, object]) -> None:
    assert identity(changed(**same)) == identity(PLAIN)
    assert list(PLAIN) == list(changed())  # the caller's config keeps its keys
    assert PLAIN["trainer"]["accelerator"] == "auto"


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"objective__beta": 1.5}, {"trainer__devices": 2}, {"data__batch_size": 128}, {"seed": True}]
)
def test_what_decides_the_result_changes_the_identity(other: dict[str, object]) -> None:
    assert identity(changed(**other)) != identity(PLAIN)


def test_one_batch_differs_from_all_batches() -> None:
    """1 and 1.0 are the same number, except at keys where 1.0 is a share: all of the batches or images."""
    assert identity(changed(trainer__limit_train_batches=1)) != identity(changed(trainer__limit_train_batches=1.0))
    assert identity(changed(trainer__limit_train_batches=5)) == identity(changed(trainer__limit_train_batches=5.0))
    assert identity(changed(data__validation_size=1)) != identity(changed(data__validation_size=1.0))


def test_the_minimum_of_steps_counts_unless_epochs_are_set() -> None:
    few, many = ({**PLAIN, "budget": {"epochs": 3, "min_steps": steps}} for steps in (10, 2000))
    assert identity(few) != identity(many)
    with_epochs = [{**plain, "trainer": {**plain["trainer"], "max_epochs": 3}} for plain in (few, many)]
    assert identity(with_epochs[0]) == identity(with_epochs[1])


@pytest.mark.parametrize("value", [0.5, [1, 2], "layers"])
def test_a_model_may_have_another_value_where_earlier_versions_lack_a_group(value: object) -> None:
    """Such as `+model.rates=0.5` of a model of the user's own; `model.rates.layers` is a key of ours."""
    assert identity(changed(model__rates=value)) == identity(changed(model__rates=value)) != identity(PLAIN)
    assert identity(changed(model__rates={"low": 1, "layers": "gates"})) == identity(changed(model__rates={"low": 1}))
