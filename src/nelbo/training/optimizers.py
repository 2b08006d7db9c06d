"""An optimiser of any class from a config whose options are those of Adam or of Muon."""

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
MUON = {"momentum": 0.95, "adam_lr": 1.0}
"""The options that conf/optimizer/muon.yaml has beyond those of Adam."""

OWN_DEFAULTS = ("eps", "momentum")
"""Options of many classes, of which each keeps its own default."""


def build_optimizer(plain: Mapping[str, Any], overrides: Sequence[str], allowed: Sequence[str]) -> Factory:
    """Return a factory for the optimiser of a config, to be called with the parameters.

    The options in conf/optimizer are those of Adam and AdamW, and of Muon, which some models choose. For another class,
    the options that it does not have are omitted, and so are epsilon and momentum if the class has a default of its own
    for them; the log lists them.

    Args:
        plain: the whole config, in plain containers.
        overrides: the overrides of the command line; options of the optimiser among them are never omitted.
        allowed: prefixes of what the config may build.

    Raises:
        ConfigError: for an override, or a value other than our default, that the class does not accept.
    """
    spec, overridden = plain["optimizer"], _overridden_options(overrides)
    kind = build({"_target_": spec["_target_"], "_partial_": True}, "optimizer", allowed).target
    defaults = {
        "betas": plain.get("budget", {}).get("betas"),
        "eps": ADAM["eps"].default,
        "weight_decay": ADAMW["weight_decay"].default,
        "fused": True,
        **MUON,
    }
    omitted = [
        name
        for name, value in defaults.items()
        if name in spec and name not in overridden and spec[name] == value and not _takes_default(kind, name, value)
    ]
    factory: Factory = build({name: spec[name] for name in spec if name not in omitted}, "optimizer", allowed)
    if omitted:
        log.info(
            "%s: these defaults of another optimiser do not apply and are omitted: %s",
            kind.__name__,
            ", ".join(omitted),
        )
    return factory


def _overridden_options(overrides: Sequence[str]) -> set[str]:
    """Return the optimiser's options among overrides: of optimizer.momentum=0.9, or inside optimizer={...}."""
    names: set[str] = set()
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group, _, option = key.partition(".")
        if group == "optimizer":
            names |= {option.partition(".")[0]} if option else set(re.findall(r"[{,]\s*(\w+)\s*:", value))
    return names


def _takes_default(kind: type, name: str, value: Any) -> bool:
    """Return whether a class has an option and, for epsilon and momentum, no default of its own other than `value`."""
    parameters = inspect.signature(kind).parameters
    if name not in parameters:
        return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    return name not in OWN_DEFAULTS or parameters[name].default in (value, inspect.Parameter.empty)
