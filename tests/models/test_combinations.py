"""Training of 30 drawn combinations of components on four data sets, through train.py."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import nelbo
from nelbo.nets.flows import KINDS
from tests.helpers.downloads import needs
from tests.helpers.errors_of_commands import TROUBLE
from tests.helpers.factors import refusal
from tests.helpers.forks import ROOT, forked

COUNT, QUICK = 30, {2, 4, 7, 9}
DEQUANTIZED = (7, 23)
"""Indices of combinations with a density that are trained on uniformly dequantised pixels."""
SETS = ("digits", "binarized_mnist", "mnist", "cifar10")
OF_TABLES = ("columns",)
"""Options that are for rows of tables alone, which tests of tables train."""
NETS = ("mlp_vae", "conv_vae", "linear_vae")


def options(group: str) -> list[str]:
    """Return the options of a config group that are for images."""
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if path.stem not in OF_TABLES)


def draw() -> dict[str, list[str]]:
    """Return overrides by the name of the combination.

    Each component is the least used option so far that fits the others; ties are broken at random.
    """
    dice, used = random.Random(0), Counter[str]()

    def least_used(group: str, fits: Callable[[str], bool]) -> str:
        candidates = [name for name in options(group) if fits(name)]
        dice.shuffle(candidates)
        name = min(candidates, key=lambda name: used[f"{group}={name}"])
        used[f"{group}={name}"] += 1
        return name

    drawn: dict[str, list[str]] = {}
    for index in range(COUNT):
        data, net = SETS[index % len(SETS)], NETS[index // len(SETS) % len(NETS)]
        # Grey pixels are outside the support of Bernoulli; a fully connected net with logits per level is too large.
        unsupported = {"bernoulli"} if data != "binarized_mnist" else set[str]()
        unsupported |= {"categorical"} if net != "conv_vae" and data in ("mnist", "cifar10") else set()
        likelihood = least_used("likelihood", lambda name, unsupported=unsupported: name not in unsupported)  # type: ignore[misc]
        posterior = least_used("posterior", lambda name: True)
        objective = {"deterministic": "reconstruction", "vector_quantized": "vq_vae"}.get(posterior, "elbo")
        pair = posterior, objective
        prior = least_used("prior", lambda name, pair=pair: refusal(pair[0], name, pair[1]) is None)  # type: ignore[misc]
        parts = [f"model={net}", f"data={data}", f"likelihood={likelihood}", f"posterior={posterior}", f"prior={prior}"]
        parts += [f"objective={objective}", "model.latent_dim=4", "trainer=smoke", "data.batch_size=32"]
        for slot in ("posterior", "prior"):
            if f"{slot}=flow" in parts:  # a VampPrior needs a flow whose inverse is fast
                slow = {"autoregressive"} if slot == "posterior" and prior == "vamp" else set[str]()
                parts.append(f"model.{slot}.kind={dice.choice([kind for kind in KINDS if kind not in slow])}")
        parts += ["model.prior.components=20"] * (prior in ("mixture", "vamp"))
        if index in DEQUANTIZED:
            parts += ["data.protocol=dequantized"]
        drawn[f"{index:02}-{data}-{net}-{likelihood}-{posterior}-{prior}"] = parts
    return drawn


DRAWN = draw()


def test_the_draw_covers_every_component_and_every_data_set_with_every_net() -> None:
    overrides = {part for parts in DRAWN.values() for part in parts}
    for group in ("likelihood", "posterior", "prior"):
        assert {f"{group}={name}" for name in options(group)} <= overrides
    assert {(data, net) for data in SETS for net in NETS} == {
        (parts[1].removeprefix("data="), parts[0].removeprefix("model=")) for parts in DRAWN.values()
    }


def parameters() -> Iterator[object]:
    """Yield the name of each combination: the quick ones have every data set and every net."""
    for index, name in enumerate(DRAWN):
        slow = [pytest.mark.slow] * (index not in QUICK)
        yield pytest.param(name, marks=[needs(name.split("-")[1]), *slow])


@pytest.mark.parametrize("name", list(parameters()))
def test_a_combination_trains_and_loads(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    done = forked("train.py", *DRAWN[name], f"hydra.run.dir={run}", "threads=1")
    output = done.stderr
    assert done.returncode == 0, output
    assert not [sign for sign in TROUBLE if sign in output.lower()], output
    metrics = json.loads((run / "metrics.json").read_text())
    assert math.isfinite(metrics["test/reconstruction"])
    assert ("test/nelbo" in metrics) == ("-deterministic-" not in name)
    discrete = name.split("-")[3].startswith(("discretized", "categorical", "bernoulli"))
    basis = "probabilities" if discrete else "uniform dequantisation" if int(name[:2]) in DEQUANTIZED else None
    basis = None if "-deterministic-" in name else basis
    assert ("test/bits_per_dim" in metrics) == (basis is not None)
    assert metrics.get("bits_per_dim_by") == basis
    model = nelbo.load(run)
    with torch.no_grad():
        assert model.generate(2).mean.shape == (2, *model.shape)
