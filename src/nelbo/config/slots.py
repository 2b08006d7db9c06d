"""Checks that a config has all parts of a run and all slots of its model, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nelbo.errors import ConfigError, NelboError

HEADS = {slot: slot for slot in ("posterior", "prior", "likelihood")}
"""Slots of every model, and the config group that fills each of them."""

SLOTS = HEADS | {"encoder": "model", "decoder": "model"}
"""All slots that a model of nelbo can have, and the config group that fills each of them."""

SLOTS_OF = {
    "nelbo.models.VAE": SLOTS,
    "nelbo.models.LadderVAE": HEADS,
    "nelbo.models.TopDownVAE": HEADS,
}
"""By the path of a model, its slots."""

OF_ONE_LEVEL = ("rates", "nesting", "inputs")
"""Groups that add a part of their own name to models with one level of latents."""

NO_GROUPS = {"guard": "a run needs it to end training that is not finite; guard.skip_above=null skips no updates"}
"""Hints for missing parts that have no config group."""


def refuse_missing(key: str, plain: Mapping[str, Any]) -> None:
    """Check that a config has the part `key`, which every run needs.

    Raises:
        NelboError: if it is missing; the message says how to choose it.
    """
    part = plain.get(key)
    if isinstance(part, Mapping) and "_target_" in part:
        return
    hint = NO_GROUPS.get(key, f"a run needs one: choose with {key}=...")
    if key not in plain:
        raise NelboError(f"~{key}: {hint}")
    if isinstance(part, Mapping):
        raise ConfigError(f"{key}._target_", None, hint)
    raise ConfigError(key, part, hint)


def check_slots(model: Mapping[str, Any]) -> None:
    """Check that every slot of a model of nelbo has a part that can be built.

    Raises:
        ConfigError: for the first slot without one; the message says how to fill it. Also for a part that a model of
            several levels does not take.
    """
    slots = SLOTS_OF.get(model["_target_"], {})
    for group in OF_ONE_LEVEL if slots == HEADS else ():
        if group in model:
            name = model["_target_"].rpartition(".")[2]
            raise ConfigError("model", name, f"has several levels of latents, and {group}=... needs a model of one")
    for slot, chosen in slots.items():
        part = model.get(slot)
        if not isinstance(part, Mapping) or "_target_" not in part:
            hint = f"a model needs one: choose with {chosen}=..., or give a mapping with its _target_"
            raise ConfigError(f"model.{slot}", part, hint)
        if part.get("_partial_") is not True:
            hint = "must be true: the model gives it the rest of its arguments"
            raise ConfigError(f"model.{slot}._partial_", part.get("_partial_"), hint)
