"""Values that are refused before the class that they are for is imported: as that class refuses them, word for word."""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch.nn import Identity

from nelbo.config.ranges import RANGES, SMALLEST_SIGMA, SMALLEST_TEMPERATURE, check_ranges
from nelbo.errors import ConfigError
from nelbo.heads import Bernoulli, DiagonalNormalPosterior
from nelbo.heads.gaussian import SIGMA_FLOOR
from nelbo.heads.one_hot import TEMPERATURE_FLOOR
from nelbo.priors import StandardNormal
from tests.helpers.forks import ROOT

BAD: tuple[Any, ...] = (-1, 0, 0.5, -math.inf, math.nan, 1, 2**33, True, None, "three", "weighted", [], {"linear": {}})
SLOW_TO_IMPORT = {
    *("torch", "pytorch_lightning", "lightning_fabric", "torchmetrics", "tensorboard", "zuko"),
    *("numpy", "scipy", "sklearn", "pandas", "matplotlib", "PIL", "jinja2"),
}
FILES = [file for file in (ROOT / "conf").rglob("*.yaml") if file.parent.name != "conf"]
EXTRA = {
    "nelbo.heads": {"feature_shape": (6,), "shape": (1, 4, 4), "latent_dim": 3, "levels": 17},
    "nelbo.training": {"parameters": {}},
    "nelbo.nets": {"in_shape": (1, 8, 8), "target_shape": (1, 8, 8)},
    "nelbo.models": {"encoder": Identity(), "decoder": Identity(), "latent_dim": 3},
    "nelbo.priors": {"event_shape": (3,), "shape": (1, 4, 4)},
}
"""Arguments that a run adds to those of the config, where a class requires them."""


def shipped(target: str) -> dict[str, Any]:
    """Return the arguments that a shipped config file gives a class."""
    for file in FILES:
        found = [OmegaConf.to_container(OmegaConf.load(file), resolve=False)]
        while found:
            node = found.pop()
            if isinstance(node, dict):
                if node.get("_target_") == target:
                    return {
                        key: value for key, value in node.items() if key not in ("_target_", "_partial_", "defaults")
                    }
                found += node.values()
    return {}


def message(make: Any, name: str, value: Any, arguments: dict[str, Any]) -> str | None:
    """Return the line with which a class refuses a value; None where it takes it, or refuses it for another reason."""
    try:
        make(**{**arguments, name: value})
    except ConfigError as error:
        return str(error) if error.key.split(".")[0].split("[")[0] == name else None
    except (TypeError, ValueError, RuntimeError, NotImplementedError, OverflowError, MemoryError):
        return None
    return None


@pytest.mark.parametrize("target", RANGES)
def test_a_range_is_that_of_the_class(target: str) -> None:
    module, _, name = target.rpartition(".")
    make = getattr(import_module(module), name)
    numbers = {"latent_dim": 3, "classes": 4, "hidden": [4], "scales": [1.0]}
    arguments = {key: value and numbers.get(key, value) for key, value in shipped(target).items()}
    arguments = {key: value for key, value in arguments.items() if not str(value).startswith("${")}
    parameters = inspect.signature(make).parameters
    extra = EXTRA.get(module, {})
    required = {key for key, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
    arguments |= {key: value for key, value in extra.items() if key in required and key not in arguments}
    if target == "nelbo.models.VAE":
        arguments = {"shape": [1, 4, 4], **dict.fromkeys(("encoder", "posterior", "prior", "decoder", "likelihood"))}
    if target == "nelbo.models.Conditioning":
        arguments |= {"kinds": {"label": 4}}
    if target in ("nelbo.models.TableInputs", "nelbo.models.MaskedInputs"):
        arguments |= {"shape": [2]}
    if target in ("nelbo.models.LadderVAE", "nelbo.models.TopDownVAE"):
        arguments |= {
            "shape": [1, 28, 28],
            "hidden": None,
            "posterior": DiagonalNormalPosterior,
            "prior": StandardNormal,
        }
        arguments |= {"likelihood": Bernoulli}
    if module == "nelbo.data.module":
        arguments |= {"name": "x", "source": list, "augment": None, "levels": 2, "order_seed": 0, "batch_size": 2}
    if module == "nelbo.data.own_dataset":
        arguments |= {"name": "x", "source": [1.0], "test_source": None, "val_source": None, "order_seed": 0}
        arguments |= {"batch_size": 2, "levels": None, "shape": None}
    compared = 0
    for key in RANGES[target]:
        for bad in BAD:
            if bad == 2**33 and key not in ("seed", "order_seed"):  # would be built
                continue
            if key == "levels" and bad is None:  # the images say it, once they are read
                continue
            of_class = message(make, key, bad, arguments)
            try:
                check_ranges({"_target_": target, key: bad})
            except ConfigError as error:
                assert str(error) == of_class, (key, bad)
                compared += 1
            else:
                assert of_class is None, (key, bad, of_class)
    assert compared >= len(RANGES[target])


def test_bounds_are_those_of_the_classes() -> None:
    assert SMALLEST_SIGMA == SIGMA_FLOOR and SMALLEST_TEMPERATURE == TEMPERATURE_FLOOR


def test_every_shipped_config_is_in_range() -> None:
    for target in RANGES:
        arguments = {key: value for key, value in shipped(target).items() if not str(value).startswith("${")}
        check_ranges({"_target_": target, **arguments})


def test_a_key_is_named_whole() -> None:
    model = {"prior": {"_target_": "nelbo.priors.Mixture", "components": 0}}
    with pytest.raises(ConfigError, match=r"^model.prior.components=0: must be a whole number of at least 1$"):
        check_ranges({"model": model})


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--cfg", "job"),
        ("objective.beta=-1",),
        ("model.latent_dim=0",),
        ("trainer.max_epochs=-1",),
        ("data.batch_size=0",),
        ("optimizer.lr=nan",),
        ("model=conv_vea",),
        ("likelihood=gaussian_fixed", "model.likelihood.sigma=0"),
    ],
    ids=" ".join,
)
def test_what_needs_no_model_is_answered_without_torch(words: tuple[str, ...], tmp_path: Path) -> None:
    """Nor anything else that takes long to import: what is left takes about 0.6 s of CPU time."""
    code = (
        "import runpy, sys\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        f"print(sorted({SLOW_TO_IMPORT} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *words, f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout[-500:] + done.stderr
    if "=" in words[0]:
        assert re.match(rf"error: {re.escape(words[-1].partition('=')[0])}=", done.stderr), done.stderr
