"""Command lines without Hydra: `key=value` arguments, read by argparse, with errors as one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from nelbo.errors import USAGE_ERROR, NelboError
from nelbo.messages.shell import for_shell
from nelbo.messages.suggestions import did_you_mean, suggestions
from nelbo.terminal.programs import program
from nelbo.terminal.streams import tolerate_closed_pipes

DASHES = "--"
SPELLINGS = "Options are typed as key=value, as --key=value or as --key value."


class Parser(argparse.ArgumentParser):
    """A parser of `key=value` arguments, which may also be typed as `--key=value` or `--key value`.

    Args:
        command: the command, such as report.
        usage: what is typed behind it.
        description: what the command does; shown by `--help`.
        epilog: shown at the end of the help, such as examples.
    """

    def __init__(self, command: str, usage: str, description: str, epilog: str | None = None) -> None:
        self.typed: Sequence[str] = ()
        self.keys: list[str] = []
        self.required: list[str] = []
        self.of_paths: list[str] = []
        super().__init__(
            prog=program(command),
            usage=f"{program(command)} {usage}",
            description=description,
            epilog="\n\n".join(filter(None, (epilog, SPELLINGS))),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def key(self, name: str, metavar: str, help: str, *, required: bool = False, **options: Any) -> None:
        """Add a key.

        Args:
            name: the key.
            metavar: what stands for its value in the help.
            help: what it means.
            required: whether it must be given.
            **options: further options of `ArgumentParser.add_argument`.
        """
        self.keys.append(name)
        if required:
            self.required.append(name)
        self.add_argument(f"{DASHES}{name}", metavar=metavar, help=help, **options)

    def path_key(self, name: str) -> None:
        """Name a key, which need not be given, as that of a path that is typed without one."""
        self.of_paths.append(name)

    def read(
        self, arguments: Sequence[str], *, others: str | tuple[str, ...] = ""
    ) -> tuple[argparse.Namespace, dict[str, str]]:
        """Return the values by key, and those of keys that begin with `others`, or with one of several.

        Raises:
            NelboError: for an unknown key or a missing one.
        """
        self.typed = arguments
        more, known = {}, []
        for argument in arguments:
            name, sign, value = argument.removeprefix(DASHES).partition("=")
            if others and sign and name.startswith(others):
                more[name] = value
            else:
                known.append(f"{DASHES}{argument}" if sign and name in self.keys and argument[0] != "-" else argument)
        values, unknown = self.parse_known_args(known)
        if unknown:
            raise NelboError(self._unknown(unknown[0]))
        missing = [name for name in self.required if not getattr(values, name.replace("-", "_"))]
        if missing:
            line = f"usage: {self.usage}"
            raise NelboError(f"{missing[0]}=... is missing; {line}" if arguments else line)
        return values, more

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with a usage of several lines."""
        raise NelboError(f"{message}; usage: {self.usage}")

    def _unknown(self, argument: str) -> str:
        key, sign, _ = argument.removeprefix(DASHES).partition("=")
        of_paths = [*self.required, *self.of_paths]
        missing = [name for name in of_paths if not any(other.startswith(f"{name}=") for other in self.typed)]
        if not sign and missing and not argument.startswith("-"):  # a path without its key
            return f"{did_you_mean([for_shell(f'{missing[0]}={argument}')])}usage: {self.usage}"
        return f"{argument}: unknown argument; {did_you_mean(suggestions(key, self.keys))}usage: {self.usage}"


def boolean(text: str) -> bool:
    """Return a truth value as it is typed.

    Raises:
        argparse.ArgumentTypeError: for anything but true and false.
    """
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text} must be true or false")
    return text == "true"


def fail(error: object) -> NoReturn:
    """Print an error as one line and exit with status 2."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(USAGE_ERROR)


def prepared() -> list[str]:
    """Return the arguments of the command line; output whose reader has closed it is discarded from here on."""
    tolerate_closed_pipes()
    return sys.argv[1:]
