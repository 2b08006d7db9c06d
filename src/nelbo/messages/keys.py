"""Keys that there are not, and those that were meant."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nelbo.composing.script import COMMANDS, SPECIAL, Script, parsed, primary_keys
from nelbo.config.build import RUN_PREFIXES, build
from nelbo.config.checks import CHECKS
from nelbo.config.keys import TYPED_KEYS
from nelbo.config.trainer_checks import LAST_EPOCH, LOGGER_OPTIONS
from nelbo.errors import ConfigError
from nelbo.messages.names import MOST, OTHER_KEYS, alike, meant, question, squeezed
from nelbo.messages.shell import for_shell
from nelbo.messages.values import below_a_value
from nelbo.terminal.programs import program

ALLOWED = (*RUN_PREFIXES, "nelbo.evaluation.", "nelbo.pictures.")
LEAST_ALIKE_PARTS = 0.6
"""How alike the last parts of two keys are at least, where the whole keys are alike."""

MOST_OPTIONS = 3
"""Keys of other options that an error names."""

MOST_LISTED = 16
"""Keys of a mapping that an error lists; of more it says how to see them."""


def no_such_key(key: str, value: str, script: Script) -> str:
    """What to say of a key that the config does not have: what was meant, where it belongs, or what there is.

    Args:
        key: as it was typed, without `+`.
        value: as it was typed.
        script: whose command line it is of.
    """
    key = _with_its_parents(key.replace("/", "."), script)
    return _left_to_its_default(key, value, script) or (
        f"there is no such key; {hint_for_key(key, value, script) or _what_there_is(key, script)}"
    )


def hint_for_key(key: str, value: str, script: Script) -> str:
    """What was meant by a key that there is not, or where it belongs; empty if that cannot be guessed."""
    key = _with_its_parents(key.replace("/", "."), script)
    if beside := _other_name_beside(key, script):
        return question([_with_value(beside, value)]) + _what_there_is("", script)
    if key not in script.config and key in (having := script.options_with(key)):
        return _keys_of_options({key: having[key]})
    if key.startswith("hydra."):
        return f"{question(_alike_at_the_end(key, script.hydra_keys)[:1])}{script.command} --cfg hydra lists them"
    if below := below_a_value(key, value, script):
        return below
    exact = _exactly_meant(key, script)
    of_option = "" if exact else _of_another_option(key, script)
    of_script = _of_another_script(key, value, script) if exact in ([], [key]) else ""
    if of_option or of_script:
        return of_option or of_script
    asked = question([_with_value(name, value) for name in exact or _nearly_meant(key, script)])
    return asked and f"{asked}{_what_there_is('', script)}"


def _with_value(name: str, value: str) -> str:
    """A key that needs a plus, with its value, so that it can be pasted; any other as it is."""
    return for_shell(f"{name}={value}") if name.startswith("+") and "=" not in name and value else name


def _other_name_beside(key: str, script: Script) -> str:
    """The key beside one that there is not, which other programs call so; empty if there is none."""
    parent, _, last = key.rpartition(".")
    others = " or ".join(OTHER_KEYS.get(squeezed(last), ())).split(" or ")
    beside = [other for other in others if parent and other.rpartition(".")[0] == parent]
    return next(filter(None, (_as_it_stands(other, script) for other in beside)), "")


def _with_its_parents(key: str, script: Script) -> str:
    """`model.likelihood.sigma` for `likelihood.sigma`: the name of a group may stand for the place of its options."""
    first, dot, rest = key.partition(".")
    places = [
        known for known, value in script.config.items() if known.endswith(f".{first}") and isinstance(value, dict)
    ]
    return f"{places[0]}.{rest}" if dot and first not in script.config and len(places) == 1 else key


def likely_keys(key: str, script: Script) -> list[str]:
    """The keys, or whole overrides, that somebody may have meant who typed one that there is not."""
    return _exactly_meant(key, script) or _nearly_meant(key, script)


def _exactly_meant(key: str, script: Script) -> list[str]:
    """Keys of the same name elsewhere or in another spelling, and what other programs call so."""
    config, last = script.config, squeezed(key.split(".")[-1])
    if key in config:
        return [key]
    if same := [known for known in config if squeezed(known) == squeezed(key)]:
        return same[:1]
    if typed := [known for known in TYPED_KEYS if known in config and squeezed(known.split(".")[-1]) == last]:
        return typed
    same = [known for known in config if squeezed(known.split(".")[-1]) == last and "." in known]
    if beside := [known for known in same if "." in key and known.startswith(f"{key.rpartition('.')[0]}.")]:
        return beside[:MOST]
    for others in OTHER_KEYS.get(last, ()):
        if found := [there for other in others.split(" or ") if (there := _as_it_stands(other, script))]:
            return found
    return [known for known in same if not known.startswith("budget.")][:MOST]


def _as_it_stands(other: str, script: Script) -> str:
    """A key or an override of a table, if this script has it; with a plus where only its class has it."""
    known, _, _ = other.partition("=")
    if known in script.config or known in script.own_keys:
        return other
    if known == "hydra.run.dir":
        return known if script.primary == "config" else ""
    return f"+{other}" if takes(known, script) else ""


def _nearly_meant(key: str, script: Script) -> list[str]:
    """Keys of a similar name: beside it, among those that people type, anywhere."""
    parent, _, last = key.rpartition(".")
    if beside := meant(last, _beside(parent, script)):
        return [f"{parent}.{name}" if parent else name for name in beside]
    typed = {known: known.split(".")[-1] for known in TYPED_KEYS if known in script.config}
    if near := meant(last, typed.values(), 1):
        return [known for known, name in typed.items() if name in near]
    return [known for known in _alike_at_the_end(key, script.config) if not key.startswith(known)][:1] if parent else []


def _alike_at_the_end(key: str, known: Iterable[str]) -> list[str]:
    """Keys that are spelt like one, in the last part too: what they have in common may be a long parent."""
    last = key.rpartition(".")[2]
    names = {other: other.rpartition(".")[2] for other in alike(key, known)}
    return [other for other, name in names.items() if name not in SPECIAL and alike(last, [name], LEAST_ALIKE_PARTS)]


def _beside(parent: str, script: Script) -> list[str]:
    """The names of the keys of a mapping of the config; the top-level ones for no parent."""
    before = f"{parent}." if parent else ""
    below = (known.removeprefix(before) for known in script.config if known.startswith(before))
    return [name for name in below if "." not in name and name not in SPECIAL]


def _left_to_its_default(key: str, value: str, script: Script) -> str:
    """What to say of a key that its class has and the config leaves out, and of one that is set elsewhere."""
    if key in script.config:
        return ""
    first, _, last = key.rpartition(".")
    if allows := CHECKS.get(key) or (
        LOGGER_OPTIONS.get(last) if first in script.config and re.fullmatch(r"logger\.\w+", first) else None
    ):
        override = parsed(f"{key}={value}")
        try:
            allows(key, None if override is None else override.value())
        except ConfigError as error:
            return error.hint
    if key == "scheduler.last_epoch":
        return LAST_EPOCH
    if target := takes(key, script):
        return f"the config leaves this to the default of {target}; a plus sets it: {for_shell(f'+{key}={value}')}"
    return ""


def takes(key: str, script: Script) -> str:
    """The name of the class that is built from a key's parent, if it has an option of that name; else empty.

    What the run itself gives it is no option: of ours what may be given by its place, of others' the first.
    """
    parent, _, last = key.rpartition(".")
    target = script.config.get(f"{parent}._target_")
    if not isinstance(target, str):
        return ""
    try:
        factory: Any = build({"_target_": target, "_partial_": True}, parent, ALLOWED)
    except ConfigError:
        return ""
    parameters = inspect.signature(factory.target).parameters
    given: list[str] = []
    if script.config.get(f"{parent}._partial_"):
        by_place = [name for name, one in parameters.items() if one.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
        given = by_place if target.startswith("nelbo.") else by_place[:1]
    return factory.target.__name__ if last in parameters and last not in given else ""


def _of_another_option(key: str, script: Script) -> str:
    """The hint for a key that other options of a group have: itself, or one of its name in its part of the config."""
    first, _, last = key.rpartition(".")
    having = script.options_with(key) or script.options_with(last)
    return _keys_of_options(
        {
            whole: options
            for whole, options in having.items()
            if not first or whole.startswith(f"{key.split('.')[0]}.") or whole.endswith(f".{key}")
        }
    )


def _keys_of_options(having: Mapping[str, Sequence[str]]) -> str:
    """What to say of keys and the options that have them."""
    parts = [
        f"{whole} is a key of {_joined([option.removeprefix('picture=') for option in options])}"
        for whole, options in having.items()
    ]
    return "; ".join(parts[:MOST_OPTIONS])


def _of_another_script(key: str, value: str, script: Script) -> str:
    """The hint for a key that the config of another script has."""
    first = key.split(".")[0]
    if first in script.own_keys and (key != first or first in script.own_groups):
        return ""  # a slip below a key that this script has too
    for primary, command in COMMANDS.items():
        other = program(command)
        if primary != script.primary and first in primary_keys(script.home / f"{primary}.yaml"):
            if primary == "config":
                here = f"; where it differs now: {key}.KEY=..." if key in script.config else ""
                return f"it belongs to training ({other}); a finished run brings its own {first}{here}"
            run = "" if first == "run" else "run=outputs/... "
            kind = "KIND " if primary == "draw" else ""
            typed = f"{other} {kind}{run}{for_shell(f'{key}={value}')}"
            return f"it belongs to {command}, which takes a finished run: {typed}"
    return ""


def _what_there_is(key: str, script: Script) -> str:
    """Where the keys stand that there are."""
    parent = key.rpartition(".")[0]
    while parent and parent not in script.config:
        parent = parent.rpartition(".")[0]
    names, target = _beside(parent, script), script.config.get(f"{parent}._target_")
    if not parent or len(names) > MOST_LISTED:
        return f"{script.command} --cfg job lists them"
    what = f"{parent} is {target} and" if target else parent
    if not names:
        return f"{what} has no keys here; {parent}._target_=... names another"
    more = f"; another is {for_shell('+callbacks.NAME={_target_:...}')}" if parent == "callbacks" else ""
    return f"{what} has: {', '.join(names)}{more}"


def _joined(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
