"""Construction of objects from configs: nested targets, errors, and targets that are refused."""

from pathlib import Path

import pytest
import torch

from nelbo.config.build import (
    MODEL_PREFIXES,
    RUN_PREFIXES,
    Factory,
    build,
    check_targets,
    user_prefixes,
)
from nelbo.errors import ConfigError
from nelbo.nets import MLP
from nelbo.schedules import Linear


def test_nested_targets_factories_and_lists_are_built() -> None:
    spec = {
        "beta": {"_target_": "nelbo.schedules.Linear", "start": 0, "end": 1, "steps": 3},
        "net": {"_target_": "nelbo.nets.MLP", "_partial_": True, "hidden": [3], "activation": "Tanh"},
        "plain": [1, {"a": "b"}],
    }
    built = build(spec)
    assert built["beta"] == Linear(start=0, end=1, steps=3) and built["plain"] == [1, {"a": "b"}]
    assert isinstance(built["net"], Factory) and isinstance(built["net"]((4,)), MLP)


def test_errors_give_the_config_path_of_the_value() -> None:
    net = {"_target_": "nelbo.nets.MLP", "_partial_": True, "hidden": [3, -1], "activation": "Tanh"}
    with pytest.raises(ConfigError, match=r"^model\.encoder\.hidden\[1\]=-1: must be"):
        build({"model": {"encoder": net}})["model"]["encoder"]((4,))
    with pytest.raises(ConfigError, match=r"^model\.encoder\.hiden=3: is not an option of MLP, which has: "):
        build({"_target_": "nelbo.nets.MLP", "_partial_": True, "hiden": 3}, "model.encoder")
    with pytest.raises(ConfigError, match=r"^objective=NegativeELBO: missing a required .*num_samples"):
        build({"_target_": "nelbo.objectives.NegativeELBO", "beta": 1.0}, "objective")
    adam = build({"_target_": "torch.optim.Adam", "_partial_": True, "lr": -1.0}, "optimizer")
    with pytest.raises(ConfigError, match=r"^optimizer=Adam: Invalid learning rate: -1.0"):
        adam([torch.zeros(1, requires_grad=True)])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "builtins.open",
        "subprocess.run",
        "torch.load",
        "torch.hub.load",
        "numpy.load",
        "shutil.copyfile",
        "pathlib.Path.write_text",
        "pytorch_lightning.core.saving._load_state",
        "nelbo.data.fetch.subprocess.run",
        "nelbo.data.fetch.os",
        "nelbo.data.fetch.shutil.which",
        "nelbo.training.module.torch.load",
        "nelbo.data.fetch.fetch",
        "nelbo.data.origins.copy_unpacked",
        "nelbo.data.origins.Https",
        "nelbo.data.store.Store",
        "nelbo.nets.nothing",
        "nelbo.nothing.Nothing",
        "torch.optim.swa_utils.update_bn",
        "torch.optim.lr_scheduler.Tensor",
        "torchmetrics.text.SacreBLEUScore",
        "torchmetrics.MeanMetric",
        "zuko.utils.bisection",
        "zuko.flows.core.torch.save",
        "nelbo",
        "",
        7,
        None,
    ],
)
def test_harmful_and_missing_targets_are_refused(target: object) -> None:
    for allowed in ({}, {"allowed": MODEL_PREFIXES}):
        with pytest.raises(ConfigError, match="_target_="):
            build({"outer": [{"_target_": target, "_partial_": True}]}, "model", **allowed)


def test_checkpoints_may_build_fewer_classes_than_runs() -> None:
    with pytest.raises(ConfigError, match="_target_=torch.optim.Adam"):
        build({"_target_": "torch.optim.Adam", "_partial_": True}, "model", MODEL_PREFIXES)


@pytest.mark.parametrize(
    "target",
    [
        "torch.optim.SGD",
        "torch.optim.lr_scheduler.StepLR",
        "pytorch_lightning.Trainer",
        "pytorch_lightning.callbacks.EarlyStopping",
        "pytorch_lightning.loggers.CSVLogger",
        "pytorch_lightning.profilers.SimpleProfiler",
        "torchmetrics.aggregation.MeanMetric",
        "torchmetrics.regression.MeanSquaredError",
        "zuko.flows.NSF",
        "zuko.distributions.DiagNormal",
    ],
)
def test_classes_of_supported_packages_are_built(target: str) -> None:
    check_targets({"a": {"_target_": target}})
    factory = build({"_target_": target, "_partial_": True})
    assert factory.target.__name__ == target.rpartition(".")[2]


def test_packages_that_the_user_allows_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from os import getcwd\ndef count(steps):\n    return steps + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"_target_": "mine.count", "steps": 3}
    with pytest.raises(ConfigError, match="_target_=mine.count: is not among"):
        build(spec)
    allowed = (*RUN_PREFIXES, *user_prefixes("allow_targets", ["mine."]))
    assert build({"a": spec, "b": {"_target_": "nelbo.schedules.Linear", "steps": 3}}, "", allowed)["a"] == 4
    for name, message in (("mine.getcwd", "is not a class or a function of mine"), ("mine.nothing", "does not exist")):
        with pytest.raises(ConfigError, match=f"_target_={name}: {message}"):
            build({"_target_": name}, "", allowed)
    for prefix in ("mine", "", ".", "..", " mine.", "mine..", "m/.", "_mine.", 7, None):
        with pytest.raises(ConfigError, match="^allow_targets=.*must be a package's name with a dot"):
            user_prefixes("allow_targets", ["mine.", prefix])
    for value in ("mine.", None, {"mine.": 1}):
        with pytest.raises(ConfigError, match="^allow_targets=.*must be a list"):
            user_prefixes("allow_targets", value)


def test_a_config_with_values_that_are_not_plain_is_refused() -> None:
    for spec in ({"a": object()}, {7: 1}, {"_args_": [1]}, {"_partial_": True}):
        with pytest.raises(ConfigError, match=r"^model\..*: "):
            build(spec, "model")


def test_errors_of_other_libraries_are_reported_with_the_arguments() -> None:
    spec = {"_target_": "pytorch_lightning.callbacks.GradientAccumulationScheduler", "scheduling": 2}
    with pytest.raises(ConfigError) as raised:
        build(spec, "callbacks.sums")
    assert str(raised.value) == (
        "callbacks.sums=GradientAccumulationScheduler: 'int' object is not iterable (given scheduling=2); scheduling "
        "maps epochs to batches for each step, such as {0:1,4:2}"
    )


def test_the_hint_for_a_missing_argument_says_how_to_set_it() -> None:
    factory = build({"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True}, "scheduler")
    with pytest.raises(ConfigError, match=r"'step_size'; set \+scheduler\.step_size=\.\.\.$"):
        factory(None)
