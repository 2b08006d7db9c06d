"""The builder builds what is allowed, and nothing else."""

import pytest
import torch

from nelbo.build import MODEL_PREFIXES, Factory, build
from nelbo.errors import ConfigError
from nelbo.nets import MLP
from nelbo.schedules import Linear


def test_nested_targets_partials_and_lists() -> None:
    spec = {
        "beta": {"_target_": "nelbo.schedules.Linear", "start": 0, "end": 1, "steps": 3},
        "net": {"_target_": "nelbo.nets.MLP", "_partial_": True, "hidden": [3], "activation": "Tanh"},
        "plain": [1, {"a": "b"}],
    }
    built = build(spec)
    assert built["beta"] == Linear(start=0, end=1, steps=3) and built["plain"] == [1, {"a": "b"}]
    assert isinstance(built["net"], Factory) and isinstance(built["net"]((4,)), MLP)


def test_errors_name_where_the_value_stands() -> None:
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
        "nelbo",
        "",
        7,
        None,
    ],
)
def test_hostile_and_missing_targets_are_refused(target: object) -> None:
    for allowed in ({}, {"allowed": MODEL_PREFIXES}):
        with pytest.raises(ConfigError, match="_target_="):
            build({"outer": [{"_target_": target, "_partial_": True}]}, "model", **allowed)


def test_a_checkpoint_may_build_less_than_a_run() -> None:
    with pytest.raises(ConfigError, match="_target_=torch.optim.Adam"):
        build({"_target_": "torch.optim.Adam", "_partial_": True}, "model", MODEL_PREFIXES)
