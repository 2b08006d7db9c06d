"""Command lines, composed and checked in this process as a command does before it begins."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nelbo.commands.resolvers import register_resolvers
from nelbo.composing.command import Command
from nelbo.composing.compat import hydra_options
from nelbo.config.checks import check
from nelbo.messages.arguments import check_arguments
from nelbo.messages.unused import refuse_missing_keys, refuse_unused_keys
from tests.helpers.forks import ROOT

CONF = ROOT / "conf"
SCRIPTS = {"config": "train.py", "evaluate": "scripts/evaluate.py", "draw": "scripts/draw.py"}
"""The script of each command, by the name of its primary config."""

SMALL_MODEL = ["model=mlp_vae", "data=digits"]


def command(primary: str = "config") -> Command:
    return Command(f"python {SCRIPTS[primary]}", CONF, primary)


def composed(arguments: list[str], primary: str = "config") -> DictConfig:
    """The config of a command line, checked as the command does before it begins."""
    register_resolvers()
    check_arguments(arguments, command(primary))
    with initialize_config_dir(str(CONF), **hydra_options()):
        config = compose(primary, overrides=[argument for argument in arguments if not argument.startswith("-")])
        refuse_unused_keys(config, command(primary))
    if primary == "config":
        check(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))  # type: ignore[arg-type]
    else:
        refuse_missing_keys(config, command(primary))
    return config
