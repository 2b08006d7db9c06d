"""Messages for objects of a config that cannot be built: hints about names and arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nelbo.errors import as_hydra_takes, first_line

OTHER_NAMES = ("lightning.pytorch.", "lightning.", "pl.")
LIGHTNING = "pytorch_lightning."
"""Other names of the package Lightning, and the name of the one that nelbo uses, whose classes are different ones."""

FORMS = {"scheduling": "maps epochs to batches for each step, such as {0:1,4:2}"}
"""Descriptions of arguments that other libraries use without checking them."""


def installed_name(name: str) -> str:
    """Return the name of a class of Lightning in the package that nelbo uses; empty for other names."""
    other = next((prefix for prefix in OTHER_NAMES if name.startswith(prefix)), "")
    return other and LIGHTNING + name.removeprefix(other)


def missing_super_call(error: Exception) -> str:
    """Return a hint for an error of a class whose `__init__` does not call that of its base; empty for other errors."""
    if match := re.fullmatch(r"(\w+)\.__init__\(\) missing \d+ required .*: (.+)", first_line(error)):
        names = re.findall(r"'(\w+)'", match[2])
        return f"its __init__ must pass {', '.join(names)} to that of {match[1]}: super().__init__({', '.join(names)})"
    if "before Module.__init__() call" in str(error):
        return "its __init__ must call super().__init__(...) before it sets attributes"
    return ""


def missing_argument(error: TypeError, path: str) -> str:
    """Return the message for a call without a required argument, with how to set it.

    Args:
        error: error of `inspect.Signature.bind`.
        path: where the object is in the config.
    """
    missing = re.fullmatch(r"missing a required (?:keyword-only )?argument: '(\w+)'", first_line(error))
    plus = "" if "[" in path else "+"  # Hydra cannot add keys to an element of a list
    return first_line(error) + (f"; set {plus}{path}.{missing[1]}=..." if missing else "")


def constructor_message(error: Exception, arguments: Mapping[str, object]) -> str:
    """Return the message of another library's constructor; with the values of its arguments if it names none of them.

    Args:
        error: error of the constructor.
        arguments: arguments in the config.
    """
    line = first_line(error)
    plain = {key: value for key, value in arguments.items() if is_plain(value)}
    if not plain or any(re.search(rf"\b{key}\b", line) for key in plain):
        return line
    values = ", ".join(f"{key}={as_hydra_takes(value)}" for key, value in plain.items())
    hints = "".join(f"; {key} {hint}" for key, hint in FORMS.items() if key in plain)
    return f"{line} (given {values}){hints}"


def is_plain(value: object) -> bool:
    """Return whether a value is plain, as in the config, and not an object that was built from it."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    return all(map(is_plain, value)) if isinstance(value, list) else isinstance(value, str | int | float | None)
