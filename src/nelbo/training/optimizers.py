"""An optimiser of any class, from a config whose defaults are those of Adam."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nelbo.config.build import Factory, build

log = logging.getLogger(__name__)

ADAM, ADAMW = (inspect.signature(kind).parameters for kind in (torch.optim.Adam, torch.optim.AdamW))


def build_optimizer(plain: Mapping[str, Any], overrides: Sequence[str], allowed: Sequence[str]) -> Factory:
    """The optimiser of a config, to be called with the parameters.

    The options in conf/optimizer are those of Adam and AdamW. Where the class is another one, those that it does not
    have are left out, and the log says so; epsilon also where the class has a default of its own for it.

    Args:
        plain: the config.
        overrides: what was typed on the command line; options of the optimiser among them are never left out.
        allowed: what the config may build.

    Raises:
        ConfigError: for a typed option, or a value that is no default of ours, that the class does not have.
    """
    spec, typed = plain["optimizer"], _typed(overrides)
    kind = build({"_target_": spec["_target_"], "_partial_": True}, "optimizer", allowed).target
    defaults = {
        "betas": plain.get("budget", {}).get("betas"),
        "eps": ADAM["eps"].default,
        "weight_decay": ADAMW["weight_decay"].default,
        "fused": True,
    }
    left_out = [
        name
        for name, value in defaults.items()
        if name in spec and name not in typed and spec[name] == value and not _suits(kind, name, value)
    ]
    factory: Factory = build({name: spec[name] for name in spec if name not in left_out}, "optimizer", allowed)
    if left_out:
        log.info("%s: these defaults of Adam are left out: %s", kind.__name__, ", ".join(left_out))
    return factory


def _typed(overrides: Sequence[str]) -> set[str]:
    """The options that were typed: optimizer.momentum=0.9, or those in optimizer={...}."""
    typed: set[str] = set()
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group, _, option = key.partition(".")
        if group == "optimizer":
            typed |= {option.partition(".")[0]} if option else set(re.findall(r"[{,]\s*(\w+)\s*:", value))
    return typed


def _suits(kind: type, name: str, value: Any) -> bool:
    """Whether a class has an option, and no other default of its own for it where that depends on the class."""
    parameters = inspect.signature(kind).parameters
    if name not in parameters:
        return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    return name != "eps" or parameters[name].default in (value, inspect.Parameter.empty)
