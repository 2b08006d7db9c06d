"""Schedulers and optimisers of torch in runs of twelve steps, and when resumed after the fifth or the sixth step."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.optim import lr_scheduler

from nelbo.config.build import RUN_PREFIXES, Factory, build
from nelbo.config.checks import check
from nelbo.config.trainer_checks import REFUSED_OPTIMIZERS, REFUSED_SCHEDULERS
from nelbo.errors import ConfigError
from nelbo.training.optimizers import MUON, build_optimizer
from nelbo.training.rates import constant
from nelbo.training.schedulers import make_scheduler
from tests.helpers.diverging import make_config
from tests.helpers.forks import ROOT
from tests.helpers.interrupted import differences
from tests.helpers.optimizer_runs import AT_THE_END, WITHIN, Run

TOTAL, RATE = 12, 0.01

TORCHS = "scheduler._target_=torch.optim.lr_scheduler."


def expected(name: str, steps: int = TOTAL, **options: Any) -> list[float]:
    """Return the rate in each step under a scheduler of torch."""
    optimizer = torch.optim.Adam([torch.zeros(1)], lr=RATE)
    scheduler = getattr(lr_scheduler, name)(optimizer, **options)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warm_up() -> list[float]:
    """Return the rates of three steps up from a hundredth, then nine steps along half a cosine."""
    up = [RATE * (0.01 + 0.99 * step / 3) for step in range(3)]
    return [*up, *(RATE * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(9))]


def rise(steps: int, following: list[float]) -> list[float]:
    """Return the rates of a linear rise to the first of other rates, then these."""
    return [following[0] * (step + 1) / steps for step in range(steps)] + following[: TOTAL - steps]


CASES = {
    "scheduler=constant": [RATE] * TOTAL,
    "scheduler=cosine": [RATE * (1 + math.cos(math.pi * step / TOTAL)) / 2 for step in range(TOTAL)],
    "scheduler=step": expected("StepLR", step_size=4, gamma=0.1),
    f"{TORCHS}StepLR +scheduler.step_size=5": expected("StepLR", step_size=5),
    "scheduler=multistep": expected("MultiStepLR", milestones=[6, 9], gamma=0.1),
    "scheduler=multistep scheduler.milestones=[4,7]": expected("MultiStepLR", milestones=[4, 7], gamma=0.1),
    "scheduler=exponential scheduler.gamma=0.9": expected("ExponentialLR", gamma=0.9),
    "scheduler=linear": [RATE * (1 - step / TOTAL) for step in range(TOTAL)],
    f"{TORCHS}LinearLR": expected("LinearLR", total_iters=TOTAL),
    f"{TORCHS}ConstantLR +scheduler.total_iters=0.5": expected("ConstantLR", total_iters=6),
    f"{TORCHS}PolynomialLR +scheduler.power=2": expected("PolynomialLR", total_iters=TOTAL, power=2),
    "scheduler=cosine_annealing scheduler.eta_min=0.001": expected("CosineAnnealingLR", T_max=TOTAL, eta_min=0.001),
    f"{TORCHS}CosineAnnealingLR": expected("CosineAnnealingLR", T_max=TOTAL),
    "scheduler=warm_restarts": expected("CosineAnnealingWarmRestarts", T_0=3),
    "scheduler=one_cycle": expected("OneCycleLR", max_lr=RATE, total_steps=TOTAL),
    f"{TORCHS}CyclicLR +scheduler.base_lr=0.002 +scheduler.step_size_up=4": expected(
        "CyclicLR", base_lr=0.002, max_lr=RATE, step_size_up=4
    ),
    "scheduler=warm_up scheduler.milestones=[0.25]": warm_up(),
    "+scheduler.schedulers=[{_target_:torch.optim.lr_scheduler.ExponentialLR,_partial_:true,gamma:0.9},"
    "{_target_:torch.optim.lr_scheduler.LinearLR,_partial_:true,start_factor:1.0,end_factor:0.0}] "
    f"{TORCHS}ChainedScheduler": [RATE * 0.9**step * (1 - step / TOTAL) for step in range(TOTAL)],
    # No validation is better than the first by a million nats, so each one from the second on halves the rate.
    "scheduler=plateau scheduler.patience=0 scheduler.threshold=1e6": [
        RATE / 2 ** max(0, step // 3 - 1) for step in range(TOTAL)
    ],
    "lr_warm_up=4": rise(4, [RATE * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]),
    "lr_warm_up=8 scheduler=constant": rise(8, [RATE] * 4),
    "lr_warm_up=0.25 scheduler=one_cycle": rise(3, expected("OneCycleLR", max_lr=RATE, total_steps=9, steps=9)),
    "lr_warm_up=2 scheduler=exponential scheduler.gamma=0.9": rise(2, expected("ExponentialLR", gamma=0.9)),
    "lr_warm_up=2 scheduler=step scheduler.step_size=0.5": rise(2, expected("StepLR", step_size=5)),
    "lr_warm_up=4 scheduler=warm_up scheduler.milestones=[2]": rise(
        4, [RATE * 0.01, RATE * 0.505, *(RATE * (1 + math.cos(math.pi * step / 6)) / 2 for step in range(6))]
    ),
    # Validations in the rise do not count, so the one after six steps is the first.
    "lr_warm_up=4 scheduler=plateau scheduler.patience=0 scheduler.threshold=1e6": [
        *(RATE * (step + 1) / 4 for step in range(4)),
        *[RATE] * 5,
        *[RATE / 2] * 3,
    ],
    "lr_warm_up=6 scheduler=plateau scheduler.patience=0 scheduler.threshold=1e6": [
        *(RATE * (step + 1) / 6 for step in range(6)),
        *[RATE] * 3,
        *[RATE / 2] * 3,
    ],
}


@pytest.mark.parametrize("chosen", CASES)
def test_scheduler_has_torchs_rates_and_is_resumed_bit_for_bit(tmp_path: Path, chosen: str) -> None:
    whole = Run(tmp_path / "whole", *chosen.split())
    assert whole.watch.rates == pytest.approx(CASES[chosen], rel=1e-9, abs=1e-12)
    for place, steps in ((WITHIN, 5), (AT_THE_END, 6))[: 2 if "plateau" in chosen else 1]:
        resumed = Run(tmp_path / str(place), *chosen.split(), resume_from=whole.folder, at=place)
        assert resumed.watch.rates == whole.watch.rates[steps:] and resumed.watch.betas == whole.watch.betas[steps:]
        assert differences(whole.end(), resumed.end()) == []


def test_every_scheduler_of_torch_is_tested_or_refused() -> None:
    tested = " ".join(CASES) + " StepLR MultiStepLR ExponentialLR LinearLR OneCycleLR CosineAnnealingWarmRestarts"
    tested += " SequentialLR ReduceLROnPlateau"  # those of conf/scheduler
    for name in lr_scheduler.__all__:
        if name in REFUSED_SCHEDULERS or name in ("LambdaLR", "MultiplicativeLR"):
            with pytest.raises(ConfigError, match=r"^scheduler\.(_target_|lr_lambda)="):
                check(make_config(f"{TORCHS}{name}"))
        else:
            assert name in tested


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("scheduler=cosine_annealing trainer.max_epochs=2", "trainer.max_epochs=4"),
        ("scheduler=one_cycle trainer.max_epochs=3", "trainer.max_epochs=4"),
        ("scheduler=step scheduler.step_size=2", "optimizer.lr=0.004"),
        ("scheduler=linear", "optimizer.lr=0.004 scheduler.end_factor=0.5"),
        ("scheduler=one_cycle", "optimizer.lr=0.004"),
        ("scheduler=exponential scheduler.gamma=0.5", "scheduler.gamma=0.9"),
        ("scheduler=plateau", "scheduler=warm_up"),
        ("scheduler=warm_up", "scheduler=constant"),
        ("lr_warm_up=8 trainer.max_epochs=3", "trainer.max_epochs=4"),
        ("lr_warm_up=0.75 scheduler=plateau", "lr_warm_up=0"),
        ("lr_warm_up=0 scheduler=step", "lr_warm_up=0.75"),
    ],
)
def test_a_resumed_run_with_another_scheduler_has_the_rates_of_a_run_that_began_with_it(
    tmp_path: Path, before: str, after: str
) -> None:
    began = Run(tmp_path / "began", *before.split())
    changed = [*before.split(), *after.split()]
    resumed = Run(tmp_path / "resumed", *changed, resume_from=began.folder, at=WITHIN)
    assert resumed.watch.rates == Run(tmp_path / "whole", *changed).watch.rates[5:]


def test_a_plateau_keeps_its_reduction_with_another_rate(tmp_path: Path) -> None:
    plateau = ("scheduler=plateau", "scheduler.patience=0", "scheduler.threshold=1e6")
    began = Run(tmp_path / "began", *plateau)
    resumed = Run(tmp_path / "resumed", *plateau, "optimizer.lr=0.004", resume_from=began.folder, at=AT_THE_END)
    assert resumed.watch.rates == pytest.approx([0.002] * 3 + [0.001] * 3)


def test_a_cyclic_schedule_keeps_the_ratio_of_parameter_groups() -> None:
    """An objective's own parameters, for example, have another rate."""
    factory = build({"_target_": "torch.optim.lr_scheduler.OneCycleLR", "_partial_": True, "pct_start": 0.5})
    groups = [{"params": [torch.zeros(1)], "lr": 0.01}, {"params": [torch.zeros(1)], "lr": 0.0001}]
    for options in ({}, {"max_lr": 0.02}):
        optimizer = torch.optim.Adam(groups)
        factory.arguments |= options
        scheduler = make_scheduler(factory, optimizer, 10)
        for _ in range(4):
            optimizer.step()
            scheduler.step()
        peak = options.get("max_lr", 0.01)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([peak, peak / 100])


def test_a_plateau_is_detected_by_differences_because_losses_may_be_negative() -> None:
    """With a relative threshold, -99.995 counts as lower than -100."""
    factory = build({"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True, "patience": 0})
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=RATE)
    scheduler = make_scheduler(factory, optimizer, TOTAL)
    for loss in (-100.0, -99.995):
        scheduler.step(loss)  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(RATE / 10)


def test_a_users_scheduler_is_given_the_arguments_that_it_has() -> None:
    def halving(optimizer: torch.optim.Optimizer, *, total_steps: int, times: int) -> lr_scheduler.LRScheduler:
        return lr_scheduler.StepLR(optimizer, total_steps // times, 0.5)

    def plain(any_name: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        return lr_scheduler.StepLR(any_name, 7)

    for factory, step_size in ((Factory(halving, {"times": 3}, "scheduler"), 4), (Factory(plain, {}, "scheduler"), 7)):
        scheduler = make_scheduler(factory, torch.optim.SGD([torch.zeros(1)]), TOTAL)
        assert isinstance(scheduler, lr_scheduler.StepLR) and scheduler.step_size == step_size


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            "lr_warm_up=1.0",
            "lr_warm_up=1.0: must be a number of steps of at least 0, or a share of all of them below 1",
        ),
        ("lr_warm_up=-1", "lr_warm_up=-1: must be a number of steps"),
        ("lr_warm_up=true", "lr_warm_up=true: must be a number of steps"),
        ("+budget.lr_warm_up=never", "budget.lr_warm_up=never: must be a number of steps"),
        ("scheduler=plateau data.validation_size=0", "scheduler._target_=.*ReduceLROnPlateau: needs val/objective"),
        (
            "scheduler=step scheduler.step_size=0",
            "scheduler.step_size=0: must be a number of steps of at least 1, or a",
        ),
        ("scheduler=step scheduler.step_size=1.5", "scheduler.step_size=1.5: must be a number of steps"),
        ("scheduler=step scheduler.gamma=much", "scheduler.gamma=much: must be a finite number of at least 0"),
        ("scheduler=step +scheduler.last_epoch=3", "scheduler.last_epoch=3: is set by the run; resume=auto"),
        (
            "scheduler=multistep scheduler.milestones=[0.5,0.4]",
            r"scheduler.milestones=\[0.5, 0.4\]: must be in ascending order",
        ),
        ("scheduler=multistep scheduler.milestones=3", "scheduler.milestones=3: must be a list of steps"),
        (
            "scheduler=warm_up scheduler.schedulers=[3]",
            r"scheduler.schedulers\[0\]=3: must be a mapping with a _target_",
        ),
        (
            "scheduler=warm_up scheduler.schedulers=[{_target_:torch.optim.lr_scheduler.OneCycleLR,_partial_:true}]",
            r"scheduler.schedulers\[0\]._target_=torch.optim.lr_scheduler.OneCycleLR: cannot be a part of SequentialLR",
        ),
    ],
)
def test_scheduler_options_that_torch_would_refuse_late_are_refused_at_once(chosen: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        check(make_config(*chosen.split()))


def test_a_trial_of_a_single_step_has_its_whole_rate_whatever_share_of_all_steps_is_the_rise() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.5)
    make_scheduler(Factory(constant, {}, "scheduler"), optimizer, total_steps=1, warm_up=0.02)
    assert optimizer.param_groups[0]["lr"] == 0.5
    make_scheduler(Factory(constant, {}, "scheduler"), optimizer, total_steps=math.inf, warm_up=0.0)
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("value", ["12", "15"])
def test_a_rise_that_takes_all_steps_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^lr_warm_up={value}: leaves none of the 12 steps of training"):
        Run(tmp_path, f"lr_warm_up={value}")


def test_one_cycle_that_is_shorter_than_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^scheduler.total_steps=5: is less than the 12 steps of training; omit it"):
        Run(tmp_path, "scheduler=one_cycle", "scheduler.total_steps=5")


OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer)
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_trains_and_is_resumed_bit_for_bit_or_is_refused(tmp_path: Path, name: str) -> None:
    chosen = f"optimizer._target_=torch.optim.{name}"
    if name in REFUSED_OPTIMIZERS:
        with pytest.raises(ConfigError, match=f"^optimizer._target_=torch.optim.{name}: .*; use another, such as"):
            check(make_config(chosen))
        return
    check(make_config(chosen))
    whole = Run(tmp_path / "whole", chosen)
    (optimizer,) = whole.training.trainer.optimizers
    assert type(optimizer).__name__ == name and optimizer.param_groups[0]["initial_lr"] == RATE
    resumed = Run(tmp_path / "resumed", chosen, resume_from=whole.folder, at=WITHIN)
    assert differences(whole.end(), resumed.end()) == []


@pytest.mark.parametrize("pair", [("SGD", "Adam"), ("Adam", "Adagrad")])
def test_a_run_resumed_with_another_optimizer_has_an_empty_state(tmp_path: Path, pair: tuple[str, str]) -> None:
    before, after = ((f"optimizer._target_=torch.optim.{name}", "scheduler=step") for name in pair)
    began = Run(tmp_path / "began", *before, *(["+optimizer.momentum=0.9"] if pair[0] == "SGD" else []))
    resumed = Run(tmp_path / "resumed", *after, resume_from=began.folder, at=AT_THE_END)
    assert resumed.watch.rates == began.watch.rates[6:]
    (optimizer,) = resumed.training.trainer.optimizers
    assert type(optimizer).__name__ == pair[1]
    assert {int(state["step"]) for state in optimizer.state.values()} == {TOTAL - 6}


def test_another_optimizer_has_its_own_epsilon_and_the_betas_of_the_budget() -> None:
    def options(name: str) -> dict[str, Any]:
        plain = make_config() | {"optimizer": make_config()["optimizer"] | {"_target_": f"torch.optim.{name}"}}
        optimizer: torch.optim.Optimizer = build_optimizer(plain, (), RUN_PREFIXES)([torch.zeros(1)])
        return optimizer.defaults

    assert options("Adadelta")["eps"] == 1e-6 and options("Adafactor")["eps"] == (None, 1e-3)
    assert options("RAdam")["betas"] == [0.9, 0.999] and options("RAdam")["eps"] == 1e-8
    muon = yaml.safe_load((ROOT / "conf" / "optimizer" / "muon.yaml").read_text())
    assert {name: muon[name] for name in MUON} == MUON, "these are left out for another class"
    assert options("SGD")["momentum"] == 0 == options("RMSprop")["momentum"]
    assert options("Adam")["fused"] and options("SGD")["fused"] and "betas" not in options("SGD")
