"""What to say where an object of a config cannot be made: hints on names and arguments that it does not take."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nelbo.errors import as_hydra_takes, first_line

ONE_LIBRARY = ("lightning.pytorch.", "lightning.", "pl.")
LIGHTNING = "pytorch_lightning."
"""Other names under which people know a package, and its name here; classes of the one are not those of the other."""

FORMS = {"scheduling": "maps epochs to batches for each step, such as {0:1,4:2}"}
"""How arguments look that other libraries use without a check."""


def name_here(name: str) -> str:
    """What a class of Lightning's is called in the package that is installed here; empty for all other names."""
    other = next((prefix for prefix in ONE_LIBRARY if name.startswith(prefix)), "")
    return other and LIGHTNING + name.removeprefix(other)


def left_to_its_base(error: Exception) -> str:
    """The hint for a class whose `__init__` does not call that of its base as the base asks; else empty."""
    if match := re.fullmatch(r"(\w+)\.__init__\(\) missing \d+ required .*: (.+)", first_line(error)):
        names = re.findall(r"'(\w+)'", match[2])
        return f"its __init__ must give {', '.join(names)} to that of {match[1]}: super().__init__({', '.join(names)})"
    if "before Module.__init__() call" in str(error):
        return "its __init__ must call super().__init__(...) before it sets anything"
    return ""


def missing_argument(error: TypeError, path: str) -> str:
    """What a call without an argument that it needs says, with how that is set.

    Args:
        error: of `inspect.Signature.bind`.
        path: where the object stands in the config.
    """
    missing = re.fullmatch(r"missing a required (?:keyword-only )?argument: '(\w+)'", first_line(error))
    plus = "" if "[" in path else "+"  # of what stands in a list nothing is set by itself
    return first_line(error) + (f"; set {plus}{path}.{missing[1]}=..." if missing else "")


def refused(error: Exception, arguments: Mapping[str, object]) -> str:
    """What the constructor of another library says, with the values that it was given where it names none of them.

    Args:
        error: its own.
        arguments: those that the config gives.
    """
    line = first_line(error)
    plain = {key: value for key, value in arguments.items() if is_plain(value)}
    if not plain or any(re.search(rf"\b{key}\b", line) for key in plain):
        return line
    given = ", ".join(f"{key}={as_hydra_takes(value)}" for key, value in plain.items())
    hints = "".join(f"; {key} {hint}" for key, hint in FORMS.items() if key in plain)
    return f"{line} (given {given}){hints}"


def is_plain(value: object) -> bool:
    """Whether a value is as the config has it, and no object that was made of it."""
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    return all(map(is_plain, value)) if isinstance(value, list) else isinstance(value, str | int | float | None)
