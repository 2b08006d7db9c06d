"""Schedules, and the config values that describe them."""

from __future__ import annotations

import math

import pytest
import torch

from nelbo.errors import ConfigError
from nelbo.heads import FixedGaussian
from nelbo.schedules import Constant, Cosine, Cyclical, Linear, as_schedule
from tests.helpers.factors import images, make_vae


def test_linear_values() -> None:
    schedule = Linear(steps=10, start=0.5, end=2.5)
    assert [schedule(step) for step in (0, 5, 10, 11, math.inf)] == [0.5, 1.5, 2.5, 2.5, 2.5]


def test_cosine_values() -> None:
    schedule = Cosine(steps=4, start=1, end=0)
    expected = [1, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.5 - math.sqrt(0.5) / 2, 0, 0, 0]
    assert [schedule(step) for step in (0, 1, 2, 3, 4, 5, math.inf)] == pytest.approx(expected)


def test_cyclical_rises_in_the_first_part_of_each_cycle() -> None:
    """Fu et al. 2019, eq. 6: T = 40 steps, M = 2 cycles, R = 1/2."""
    schedule = Cyclical(steps=40, cycles=2, ramp=0.5)
    first = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    assert [schedule(step) for step in range(0, 40, 2)] == pytest.approx(first + first)
    assert schedule(40) == schedule(math.inf) == 1


def test_every_schedule_goes_from_start_to_end() -> None:
    for kind in (Linear, Cosine, Cyclical):
        schedule = kind(steps=7, start=3.0, end=0.25)
        assert schedule(0) == 3.0 and schedule(7) == schedule(math.inf) == 0.25
        assert all(0.25 <= schedule(step) <= 3.0 for step in range(9))


def test_numbers_mappings_and_callables_become_schedules() -> None:
    assert as_schedule("beta", 4, minimum=0) == Constant(4.0)
    assert as_schedule("beta", {"linear": {"steps": 10}}, minimum=0) == Linear(steps=10)
    options = {"cyclical": {"steps": 8, "cycles": 2, "start": 0.1}}
    assert as_schedule("beta", options, minimum=0) == Cyclical(steps=8, cycles=2, start=0.1)
    custom = lambda step: 1 / (1 + step)  # noqa: E731
    assert as_schedule("beta", custom, minimum=0) is custom


@pytest.mark.parametrize("value", ["abc", -1, math.nan, math.inf, None, True, [1]])
def test_other_values_are_invalid(value: object) -> None:
    with pytest.raises(ConfigError, match="^beta=.*: must be a finite number of at least 0, or a schedule such as"):
        as_schedule("beta", value, minimum=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {},
            "beta={}: must be one schedule with its options, such as .*; the schedules are linear, cosine, cyclical",
        ),
        ({"a": 1}, "beta={a:1}: must be one schedule with its options"),
        ({"linnear": {"steps": 3}}, "beta={linnear:.*: must be one schedule"),
        ({"linear": 3}, "beta={linear:3}: must be one schedule with its options"),
        ({"linear": {}}, "beta.linear.steps=: has no default; give a value, such as {linear:{steps:2000}}"),
        ({"linear": {"step": 3}}, "beta.linear.step=3: is not an option of linear, which has: steps, start, end"),
        ({"linear": {"steps": 0}}, "beta.linear.steps=0: must be a whole number of at least 1"),
        ({"linear": {"steps": 3, "end": "x"}}, "beta.linear.end=x: must be a finite number"),
        (
            {"linear": {"steps": 3, "end": -2}},
            "beta=-2.0: is the first or last value of its schedule; must be at least 0",
        ),
        ({"cyclical": {"steps": 3, "ramp": 1.5}}, "beta.cyclical.ramp=1.5: must be at most 1"),
        ({"cyclical": {"steps": 3, "cycles": 0}}, "beta.cyclical.cycles=0: must be a whole number of at least 1"),
    ],
)
def test_invalid_schedules_raise(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        as_schedule("beta", value, minimum=0)


def test_scheduled_sigma_follows_the_step_and_ends_at_its_final_value() -> None:
    vae = make_vae(likelihood="gaussian_scheduled")
    x = images()
    assert vae.advance(0) == {"sigma": 1.0}
    initial = vae.trace(x).px.base_dist.scale  # type: ignore[attr-defined]
    assert vae.advance(5) == {"sigma": pytest.approx(0.6)}
    torch.testing.assert_close(vae.trace(x).px.base_dist.scale, 0.6 * initial)  # type: ignore[attr-defined]
    assert vae.advance(math.inf) == {"sigma": pytest.approx(0.2)}
    assert make_vae(likelihood="gaussian_fixed").advance(3) == {}


def test_sigma_below_its_floor_raises() -> None:
    message = "sigma=0.0: is the first or last value of its schedule; must be at least 0.00113"
    with pytest.raises(ConfigError, match=message):
        FixedGaussian((1,), (1, 1, 1), sigma={"cosine": {"steps": 10, "start": 1, "end": 0}})  # type: ignore[arg-type]
