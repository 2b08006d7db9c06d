"""`did you mean ...?`: suggestions for unknown names, and the tables of aliases."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from nelbo.commands.resolvers import register_resolvers
from nelbo.messages.aliases import KEY_ALIASES, OPTION_ALIASES
from nelbo.messages.keys import class_with_option
from nelbo.messages.suggestions import suggestions
from tests.helpers.command_lines import SCRIPTS, SMALL_MODEL, command


def test_every_alias_of_an_option_leads_to_an_existing_one(message_for: Callable[..., str]) -> None:
    for group, aliases in OPTION_ALIASES.items():
        primary = {"metrics": "evaluate", "picture": "draw"}.get(group, "config")
        for alias, meanings in aliases.items():
            assert alias not in command(primary).options(group)
            for meaning in meanings:
                if meaning.startswith("optimizer._target_="):
                    assert meaning.rpartition(".")[2].casefold() == alias  # an optimiser has options of its own
                else:
                    assert "=" in meaning or meaning in command(primary).options(group), (group, alias)
                    assert "=" not in meaning or message_for(meaning, primary) == "", (group, alias)


def test_every_alias_of_a_key_leads_to_an_existing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL_MODEL])
    register_resolvers()
    commands = [command(primary) for primary in SCRIPTS]
    # Keys of other data sets, Hydra's own, and one that is optional in training.
    elsewhere = {"data.root", "data.path", "hydra.run.dir", "init_from"}
    for alias, meanings in KEY_ALIASES.items():
        for meaning in " or ".join(meanings).split(" or "):
            exists = any(meaning in one.config or class_with_option(meaning, one) for one in commands)
            assert exists or "=" in meaning or meaning in elsewhere, (alias, meaning)


def test_suggestions_for_unknown_names() -> None:
    options = ["conv_vae", "linear_vae", "mlp_vae", "vq_vae", "autoencoder"]
    assert suggestions("VQ-VAE", options) == ["vq_vae"] and suggestions("conv", options) == ["conv_vae"]
    assert suggestions("conv_vea", options) == ["conv_vae"] and suggestions("fidd", ["fid", "kid"]) == ["fid"]
    assert suggestions("imagenet", options) == [] and suggestions("x", options) == []
