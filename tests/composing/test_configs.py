"""Every option of every group composes and builds, its keys are known to its class, and defaults are set once."""

from __future__ import annotations

import copy
import functools
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from nelbo.commands.hydra_command import quoted_nan
from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.compat import hydra_options
from nelbo.config.build import Factory, build
from nelbo.config.checks import CHECKS
from nelbo.config.identity import ABSENT_MEANS, ADDED_LATER
from nelbo.config.keys import TYPED_KEYS, select
from nelbo.config.slots import OF_ONE_LEVEL
from nelbo.config.trainer_keys import REFUSED
from nelbo.evaluation.extractors import Extractor
from nelbo.evaluation.measure import JointMeasure, Measure
from nelbo.pictures import Picture
from nelbo.running.settings import resolve
from tests.helpers.factors import CODE_POSTERIORS, CODE_PRIORS
from tests.helpers.forks import ROOT

CONF = ROOT / "conf"
OPTIONS = sorted(
    (path.parent.relative_to(CONF).as_posix(), path.stem) for path in CONF.rglob("*.yaml") if path.parent != CONF
)
if importlib.util.find_spec("optuna") is None:  # without the sweep extra, whose plugin has the config of the sampler
    OPTIONS = [option for option in OPTIONS if option not in (("hydra/sweeper", "optuna"), ("sweep", "optuna_elbo"))]
OTHER_COMMANDS = {"metrics": "evaluate", "extractor": "evaluate", "picture": "draw"}
"""The groups of commands that read finished runs, with their primary configs."""

OTHER_OPTIONS = [(group, option) for group, option in OPTIONS if group in OTHER_COMMANDS]
OPTIONS = [(group, option) for group, option in OPTIONS if group not in OTHER_COMMANDS]
MODELS = [option for group, option in OPTIONS if group == "model"]


@pytest.fixture(scope="module", autouse=True)
def hydra_configs() -> Iterator[None]:
    register_resolvers()
    with initialize_config_dir(config_dir=str(CONF), **hydra_options()):
        yield


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    return resolve(compose("config", overrides=list(overrides)))


def plain(*overrides: str) -> dict[str, Any]:
    return copy.deepcopy(composed(*overrides))


def other_config(group: str, option: str) -> dict[str, Any]:
    """The config of evaluate.py or draw.py with an option."""
    chosen = f"{group}=[{option}]" if group == "metrics" else f"{group}={option}"
    overrides = ["run=somewhere", chosen, *(["extractor.weights=file"] if option == "inception" else [])]
    config = OmegaConf.to_container(
        compose(OTHER_COMMANDS[group], overrides=overrides), resolve=True, throw_on_missing=True
    )
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


TWO_COLUMNS = "columns=[{kind: numeric},{kind: binary}]"
TABLE = ["data.path=x.csv", "data.shape=[2]", f"model.likelihood.{TWO_COLUMNS}", f"model.inputs.{TWO_COLUMNS}"]
OF_TABLES = {("likelihood", "columns"), ("inputs", "table")}
"""Options that fit rows of tables alone."""

REQUIRED = {
    ("conditioning", "label"): ["model.conditioning.kinds={label:10}"],
    ("experiment", "mnist_100_labels"): ["model.conditioning.kinds={label:10}"],
    ("conditioning", "factors"): ["model.conditioning.kinds={factors:[2]}"],
    **{
        ("conditioning", name): ["model.conditioning.kinds={label:10}"]
        for name in ("semi_supervised", "semi_supervised_mlp")
    },
    ("data", "table"): TABLE,
    **{part: ["data=table", *TABLE] for part in OF_TABLES},
    ("data", "image_folder"): ["data.root=folder", "data.levels=256"],
    ("data", "function"): ["data.source._target_=nelbo.data.digits", "data.shape=[1,8,8]", "data.levels=17"],
    ("data", "dataset"): ["data.source._target_=nelbo.data.digits", "data.shape=[1,8,8]", "data.levels=17"],
    ("data", "datamodule"): [
        *("data.module._target_=nelbo.data.module.ImageData", "data.shape=[1,8,8]", "data.levels=17"),
        *("+data.module.name=digits", "+data.module.source={_target_:nelbo.data.digits,_partial_:true}"),
        *("+data.module.batch_size=10", "+data.module.validation_size=0"),
    ],
    ("data", "arrays"): ["data.path=file.npy", "data.shape=[1,28,28]", "data.levels=256"],
    ("data", "huggingface"): ["data.name=set", "data.levels=256"],
    ("scheduler", "exponential"): ["scheduler.gamma=0.999"],
    **{("posterior", posterior): ["prior=uniform"] for posterior in CODE_POSTERIORS},
    **{("prior", prior): ["posterior=categorical"] for prior in CODE_PRIORS},
    **{part: ["likelihood=gaussian_fixed"] for part in (("rates", "many"), ("rates", "modulated"))},
    **{("nesting", option): ["likelihood=gaussian_fixed"] for option in ("uniform", "geometric")},
}
"""Overrides that an option requires: keys without a default, and other parts that it must be combined with."""


def override(group: str, option: str) -> list[str]:
    return [quoted_nan(f"{group}={option}"), *REQUIRED.get((group, option), [])]


def with_option(group: str, option: str) -> dict[str, Any]:
    """The config of training with an option, on small images where the option allows it."""
    chosen = group in ("data", "experiment") or (group, option) in OF_TABLES  # experiments may be for images of a size
    small = [] if chosen else ["data=digits"]
    return plain(*small, *override(group, option))


def targets(spec: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every mapping with a `_target_` and its path."""
    children = spec.items() if isinstance(spec, dict) else enumerate(spec) if isinstance(spec, list) else ()
    if isinstance(spec, dict) and "_target_" in spec:
        yield path, spec
    for key, value in children:
        yield from targets(value, f"{path}.{key}")


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_builds(group: str, option: str) -> None:
    config = with_option(group, option)
    for key in ("data", "model", "objective", "optimizer", "scheduler", "callbacks", "logger"):
        build(config[key], key)
    assert isinstance(build(config["trainer"], "trainer"), Factory)


@pytest.mark.parametrize(
    ("group", "option"), [option for option in OTHER_OPTIONS if option != ("extractor", "inception")]
)
def test_every_measure_and_picture_composes_and_builds(group: str, option: str) -> None:
    config = other_config(group, option)
    built = build(config[group], group, ("nelbo.evaluation.", "nelbo.pictures."))
    assert isinstance(built[option] if group == "metrics" else built, Measure | JointMeasure | Extractor | Picture)


def test_the_help_of_evaluate_names_every_metric() -> None:
    text = (CONF / "evaluate.yaml").read_text()
    for group, option in OTHER_OPTIONS:
        assert group == "picture" or f"  {option} " in text, option


@pytest.mark.parametrize(("group", "option"), [*OPTIONS, *OTHER_OPTIONS])
def test_defaults_are_set_once(group: str, option: str) -> None:
    """A key in YAML has no default in Python, except in classes of other libraries.

    Those of ImageData, which is also made from Python, are None or what conf/data/mnist.yaml says. The scale of a
    posterior and the layers of rates are what checkpoints of earlier versions mean, which do not record them.
    """
    shipped = OmegaConf.to_container(OmegaConf.load(CONF / "data" / "mnist.yaml"), resolve=False)
    assert isinstance(shipped, dict)
    config = other_config(group, option) if group in OTHER_COMMANDS else with_option(group, option)
    for path, spec in targets(config):
        module, _, name = spec["_target_"].rpartition(".")
        if not module.startswith("nelbo"):
            continue
        target = getattr(importlib.import_module(module), name)
        if inspect.isclass(target):
            maker = next(base for base in target.__mro__ if "__init__" in vars(base))
            if not maker.__module__.startswith("nelbo"):  # an inherited constructor of another library
                continue
        parameters = dict(inspect.signature(target).parameters)
        if name == "ImageData":  # options of its source may be set beside it
            source = getattr(importlib.import_module("nelbo.data"), spec["source"]["_target_"].rpartition(".")[2])
            parameters = dict(inspect.signature(source).parameters) | parameters
        for key in spec.keys() - {"_target_", "_partial_"}:
            assert key in parameters, f"{path}.{key} is unknown to {name}"
            default = parameters[key].default
            if name == "ImageData" and (default is None or default == shipped.get(key) or key == "order_seed"):
                continue
            if path.endswith("model.posterior") and (key, default) == ("scale", ADDED_LATER["model.posterior.scale"]):
                continue
            if name == "ManyRates" and (key, default) == ("layers", ADDED_LATER["model.rates.layers"]):
                continue
            if name == "ImageData" and (key, default) == ("bits", ABSENT_MEANS["data.bits"]):
                continue
            if name == "MLP" and key in ("residual", "center") and default is False:  # earlier configs lack them
                continue
            models = ("VAE", "LadderVAE", "TopDownVAE")
            if name in models and key in (*OF_ONE_LEVEL, "conditioning") and default is None:  # most have none
                continue
            assert default is inspect.Parameter.empty, f"{path}.{key} has a default in {name} too"


SAME_IMAGES = {
    "cifar100": "cifar10",
    "svhn": "cifar10",
    "fashion_mnist": "mnist",
    "omniglot": "binarized_mnist",
    "huggingface": "image_folder",
}
"""Data sets whose models are those of another data set."""
DATA = [option for group, option in OPTIONS if group == "data"]


@pytest.mark.parametrize(("data", "other"), SAME_IMAGES.items())
def test_data_of_the_same_images_have_the_same_models(data: str, other: str) -> None:
    one, same = (plain(*override("data", name)) for name in (data, other))
    for key in ("shape", "levels"):
        assert one["data"][key] == same["data"][key]
    assert (one["model"], one["objective"]) == (same["model"], same["objective"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("data", [option for option in DATA if option not in (*SAME_IMAGES, "table")])
def test_every_model_fits_every_data_set(model: str, data: str) -> None:
    latents = "model.levels=[4,3]" if model == "ladder_vae" else "model.latent_dim=4"
    config = plain(f"model={model}", *override("data", data), latents)
    vae, objective = build(config["model"], "model"), build(config["objective"], "objective")
    x = torch.rand(3, *config["data"]["shape"]).round()
    trace = vae.trace(x, objective.num_samples)
    objective.check(trace)
    assert objective(trace, 0).total.isfinite()


@pytest.mark.parametrize("model", [model for model in MODELS if "mlp" in model or model == "linear_vae"])
def test_models_of_vectors_fit_tables(model: str) -> None:
    config = plain(f"model={model}", *override("data", "table"), "model.latent_dim=4")
    vae, objective = build(config["model"], "model"), build(config["objective"], "objective")
    observed = torch.tensor([[True, False], [True, True], [False, False]])
    trace = vae.trace(torch.zeros(3, 2), objective.num_samples, {"observed": observed})
    assert objective(trace, 0).total.isfinite() and type(vae.likelihood).__name__ == "Columns"


def test_data_choose_their_likelihood_and_the_command_line_wins() -> None:
    def likelihood(*overrides: str) -> str:
        return str(plain(*overrides)["model"]["likelihood"]["_target_"]).rpartition(".")[2]

    assert likelihood("data=mnist") == likelihood("data=digits") == "LearnedGaussian"
    assert likelihood("data=binarized_mnist") == likelihood("data=omniglot") == "Bernoulli"
    assert likelihood("data=cifar10") == likelihood("data=svhn") == "DiscretizedLogistic"
    assert likelihood("data=cifar10", "likelihood=gaussian") == "LearnedGaussian"
    assert likelihood("data=binarized_mnist", "likelihood=continuous_bernoulli") == "ContinuousBernoulli"


@pytest.mark.parametrize("model", MODELS)
def test_models_choose_their_budget_and_smoke_and_the_command_line_win(model: str) -> None:
    config = plain(f"model={model}")
    assert config["trainer"]["max_epochs"] is None and config["budget"]["epochs"] > 1
    assert config["optimizer"]["lr"] == config["budget"]["lr"]
    assert config["data"]["batch_size"] == config["budget"]["batch_size"]
    smoke = plain(f"model={model}", "trainer=smoke")
    assert smoke["trainer"]["max_epochs"] == 1 and smoke["trainer"]["limit_train_batches"] == 5
    typed = plain(f"model={model}", "trainer=smoke", "trainer.max_epochs=3", "optimizer.lr=0.1", "data.batch_size=7")
    assert (typed["trainer"]["max_epochs"], typed["optimizer"]["lr"], typed["data"]["batch_size"]) == (3, 0.1, 7)


def test_deep_hierarchies_bring_their_safeguards_and_the_command_line_wins() -> None:
    ordinary, deep = plain(), plain("model=top_down_vae", "posterior=laplace")
    assert (ordinary["guard"]["skip_above"], ordinary["model"]["posterior"]["scale"]) == (None, "exp")
    assert (deep["guard"]["skip_above"], deep["model"]["posterior"]["scale"]) == (1e5, "softplus")
    own = plain("model=top_down_vae", "guard.skip_above=null", "model.posterior.scale=exp")
    assert (own["guard"]["skip_above"], own["model"]["posterior"]["scale"]) == (None, "exp")


def test_natural_images_choose_the_number_of_latents_and_the_command_line_wins() -> None:
    assert plain("data=mnist")["model"]["latent_dim"] == 8
    assert plain("data=cifar10")["model"]["latent_dim"] == plain("data=cifar100")["model"]["latent_dim"] == 512
    assert plain("data=cifar10", "model.latent_dim=3")["model"]["latent_dim"] == 3
    assert plain("data=cifar10")["budget"]["epochs"] == 24
    assert plain("data=cifar10", "model=mlp_vae", "budget=linear")["budget"]["epochs"] == 1000
    assert plain("data=cifar10", "trainer=smoke")["trainer"]["max_epochs"] == 1


def test_every_option_of_the_trainer_is_a_checked_key_or_refused_with_a_reason() -> None:
    shipped = plain("model=mlp_vae")["trainer"].keys() - {"_target_", "_partial_"}
    assert shipped | REFUSED.keys() == set(inspect.signature(pl.Trainer).parameters) and not shipped & REFUSED.keys()
    assert {f"trainer.{key}" for key in shipped | REFUSED.keys()} <= CHECKS.keys()


def test_levels_follow_the_data() -> None:
    for data, levels in (("mnist", 256), ("digits", 17), ("binarized_mnist", 2), ("cifar10", 256)):
        config = plain(f"data={data}", "likelihood=discretized_logistic")
        assert config["model"]["likelihood"]["levels"] == levels


def test_the_commonly_typed_keys_exist() -> None:
    config = plain()
    for key in TYPED_KEYS:
        parent, _, name = key.rpartition(".")
        assert name in (select(config, parent) if parent else config), key


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "sweep"])
def test_a_sweep_sets_only_the_swept_values(option: str) -> None:
    """So the overrides of a cell compose the same config without the sweep."""
    assert plain(f"sweep={option}") == plain()
