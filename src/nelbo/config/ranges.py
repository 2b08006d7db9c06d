"""Ranges of the numbers and choices that the classes of nelbo take, checked before any of them is imported.

The classes check their own arguments; what stands here repeats these checks word for word, so that a wrong value is
refused in a fraction of a second, without torch. `tests/config/test_ranges.py` compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nelbo.errors import ConfigError, boolean, choice, integer, number, positive_integer
from nelbo.schedules import as_schedule

Check = Callable[[str, object], object]

SMALLEST_SIGMA = 1 / (255 * math.sqrt(12))
SMALLEST_TEMPERATURE = 0.01


def _scheduled(minimum: float = 0) -> Check:
    return partial(as_schedule, minimum=minimum)


def _options(*names: str) -> Check:
    return lambda key, value: choice(key, value, names)


def _at_least(minimum: int) -> Check:
    return partial(integer, minimum=minimum)


def _above_zero(key: str, value: object) -> float:
    return number(key, value, positive=True)


def _below_one(key: str, value: object) -> None:
    if number(key, value, minimum=0) >= 1:
        raise ConfigError(key, value, "must be below 1, at which the average would never change")


def _at_most_one(key: str, value: object) -> None:
    if number(key, value, positive=True) > 1:
        raise ConfigError(key, value, "must be at most 1")


def _not_negative(key: str, value: object) -> float:
    return number(key, value, minimum=0)


def _count_or_null(key: str, value: object) -> object:
    return value is None or positive_integer(key, value)


_SAMPLES: dict[str, Check] = {"num_samples": positive_integer}
_ELBO = _SAMPLES | {"beta": _scheduled()}
_MMD: dict[str, Check] = _SAMPLES | {"mmd_weight": _scheduled(), "kernel": _options("imq", "rbf")}
_LEVELS: dict[str, Check] = {"levels": lambda key, value: value is None or _at_least(2)(key, value)}
"""Null until the images are read, for data of one's own."""

_HIERARCHY: dict[str, Check] = {
    "hidden": _count_or_null,
    "depth": positive_integer,
    "checkpoint_activations": boolean,
    "center": boolean,
}
_BLOCKS: dict[str, Check] = {"last": _options("scaled", "zero"), "checkpoint_activations": boolean}
_CONV_BLOCKS = _BLOCKS | {"form": _options("light", "bottleneck")}

_FLOW: dict[str, Check] = {"kind": _options("autoregressive", "coupling", "spline"), "layers": positive_integer}

RANGES: dict[str, Mapping[str, Check]] = {
    "nelbo.models.VAE": {"latent_dim": positive_integer},
    "nelbo.models.ManyRates": {"lowest": _above_zero, "highest": _above_zero},
    "nelbo.models.Nesting": {"decay": _at_most_one},
    "nelbo.models.Conditioning": {
        "embedding": _count_or_null,
        "layers": _options("modulation", "concatenation"),
        "prior": boolean,
    },
    **dict.fromkeys(("nelbo.models.TableInputs", "nelbo.models.MaskedInputs"), {"mask": boolean}),
    "nelbo.models.LadderVAE": _HIERARCHY | {"width": positive_integer},
    "nelbo.models.TopDownVAE": _HIERARCHY
    | dict.fromkeys(("latent_dim", "latent_channels", "top_width", "output_width"), positive_integer)
    | {"form": _options("light", "bottleneck"), "features": _count_or_null},
    "nelbo.nets.GatedMLP": {"center": boolean},
    "nelbo.nets.ResidualMLP": _BLOCKS
    | {"width": positive_integer, "depth": positive_integer, "center": boolean}
    | {"hidden": _count_or_null},
    "nelbo.nets.ResidualConvEncoder": _CONV_BLOCKS | {"center": boolean},
    "nelbo.nets.ResidualConvDecoder": _CONV_BLOCKS
    | {"features": positive_integer, "resolution": _options("half", "quarter")}
    | {"upsampling": _options("shuffle", "nearest", "transposed")},
    "nelbo.objectives.NegativeELBO": _ELBO,
    "nelbo.objectives.STL": _ELBO,
    "nelbo.objectives.SemiSupervisedELBO": _ELBO | {"classification": _not_negative},
    "nelbo.objectives.Reconstruction": _SAMPLES,
    "nelbo.objectives.IWAE": _SAMPLES,
    "nelbo.objectives.DReG": _SAMPLES,
    "nelbo.objectives.CIWAE": _SAMPLES | {"elbo_share": _not_negative},
    "nelbo.objectives.MIWAE": _SAMPLES | {"groups": positive_integer},
    "nelbo.objectives.PIWAE": _SAMPLES | {"groups": positive_integer},
    "nelbo.objectives.FreeBits": _ELBO | {"free_bits": _scheduled(), "per": _options("unit", "channel", "level")},
    "nelbo.objectives.Capacity": _SAMPLES | {"gamma": _scheduled(), "capacity": _scheduled()},
    "nelbo.objectives.BetaTC": _SAMPLES
    | {"alpha": _scheduled(), "beta": _scheduled(), "gamma": _scheduled()}
    | {"estimator": _options("weighted", "stratified")},
    "nelbo.objectives.FactorVAE": _SAMPLES | {"gamma": _scheduled(), "discriminator_lr": _above_zero},
    "nelbo.objectives.DIP": _ELBO
    | {"variant": _options("i", "ii"), "lambda_off_diagonal": _scheduled(), "lambda_diagonal": _scheduled()},
    "nelbo.objectives.InfoVAE": _MMD | {"alpha": _scheduled(-math.inf)},
    "nelbo.objectives.WAE": _MMD,
    "nelbo.objectives.VectorQuantized": _SAMPLES | {"commitment": _scheduled()},
    "nelbo.heads.FixedGaussian": {"sigma": _scheduled(SMALLEST_SIGMA)},
    "nelbo.heads.Beta": _LEVELS,
    "nelbo.heads.Columns": {"counts": _options("negative_binomial", "poisson")},
    "nelbo.heads.Categorical": _LEVELS,
    "nelbo.heads.DiscretizedGaussian": _LEVELS,
    "nelbo.heads.DiscretizedLogistic": _LEVELS,
    "nelbo.heads.DiscretizedLogisticMixture": _LEVELS | {"components": positive_integer},
    "nelbo.heads.FlowPosterior": _FLOW | {"context": positive_integer},
    "nelbo.heads.CategoricalPosterior": {
        "classes": _at_least(2),
        "temperature": _scheduled(SMALLEST_TEMPERATURE),
        "straight_through": boolean,
    },
    "nelbo.heads.VectorQuantizedPosterior": {"classes": _at_least(2), "dead_below": _above_zero},
    "nelbo.priors.Mixture": {"components": positive_integer},
    "nelbo.priors.VampPrior": {"components": positive_integer, "from_data": boolean},
    "nelbo.priors.Flow": _FLOW,
    "nelbo.data.module.ImageData": {
        "protocol": _options("raw", "dequantized", "dynamic", "fixed", "threshold", "static"),
        "batch_size": positive_integer,
        "labelled_copies": positive_integer,
        "seed": partial(integer, minimum=0, maximum=2**32 - 1),
        "shuffle": boolean,
        "num_workers": _at_least(0),
        "order_seed": partial(integer, minimum=0, maximum=2**32 - 1),
    },
    "nelbo.data.own_dataset.OwnDataset": {
        "batch_size": positive_integer,
        "seed": partial(integer, minimum=0, maximum=2**32 - 1),
        "shuffle": boolean,
        "num_workers": _at_least(0),
        "order_seed": partial(integer, minimum=0, maximum=2**32 - 1),
    },
    "nelbo.data.Augmentation": {"flip": boolean, "pad_crop": _at_least(0)},
    "nelbo.training.EMA": {"decay": _below_one},
    "nelbo.training.callbacks.Strips": {"num_images": positive_integer},
    "nelbo.training.callbacks.Pictures": {"every_n_epochs": positive_integer},
    "nelbo.training.callbacks.Projector": {"num_examples": positive_integer},
}
"""By the path of a class, the checks of its arguments."""


def check_ranges(tree: Any, path: str = "") -> None:
    """Refuse an argument that its class would refuse.

    Args:
        tree: a config, or a part of one, as plain containers.
        path: where the part stands in the config.

    Raises:
        ConfigError: for the first such argument, with its whole key.
    """
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            check_ranges(item, f"{path}[{index}]")
    if not isinstance(tree, Mapping):
        return
    for name, allows in RANGES.get(str(tree.get("_target_")), {}).items():
        if name in tree:
            try:
                allows(name, tree[name])
            except ConfigError as error:
                raise error.within(path) from error.__cause__
    for name, item in tree.items():
        check_ranges(item, f"{path}.{name}" if path else str(name))
