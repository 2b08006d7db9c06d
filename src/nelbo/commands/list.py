"""`nelbo list`: the groups of the configs and their options, with a line about each."""

from __future__ import annotations

import textwrap

from nelbo.commands.parser import Parser, fail, prepared
from nelbo.composing.command import Command
from nelbo.composing.descriptions import groups
from nelbo.composing.places import PRIMARY, SHIPPED
from nelbo.errors import ConfigError, NelboError
from nelbo.messages.suggestions import did_you_mean, suggestions
from nelbo.terminal.console import make_console
from nelbo.terminal.programs import program

INDENT, WIDEST, NARROWEST = 2, 28, 40
"""Columns before an option, at most for its name, and at least for its description."""


def parser() -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        "list",
        "[GROUP]",
        "List the groups of the configs and their options, which are typed as GROUP=OPTION. A * marks what is chosen\n"
        "if nothing is typed.",
    )
    made.add_argument("group", nargs="?", metavar="GROUP", help="such as model; all groups if it is left out")
    return made


def main() -> None:
    """Read the command line and print the list; an unknown group ends in one line and exit status 2."""
    arguments = prepared()
    try:
        chosen = parser().read(arguments)[0].group
        found = groups(SHIPPED)
        if chosen is not None and chosen not in found:
            hint = f"there is no such group; {did_you_mean(suggestions(chosen, list(found)))}"
            raise ConfigError("group", chosen, f"{hint}{program('list')} lists all", located=True)
    except NelboError as error:
        fail(error)
    defaults = Command(program("train"), SHIPPED, PRIMARY).defaults
    console = make_console()
    for name in found if chosen is None else [chosen]:
        for line in lines(name, found[name], defaults.get(name), console.width):
            console.print(line, highlight=False)


def lines(group: str, options: dict[str, str], default: object, width: int) -> list[str]:
    """Return the lines about a group: its name, and each option with its description, wrapped to a width.

    Args:
        group: its name.
        options: descriptions by option.
        default: the option, or options, that the command chooses.
        width: of the terminal, in columns.
    """
    chosen = default if isinstance(default, list) else [default]
    column = INDENT + min(WIDEST, max(map(len, options))) + 3
    made = [f"{group}="]
    for option, text in options.items():
        start = f"{' ' * INDENT}{option}{' *' if option in chosen else ''}"
        wrapped = textwrap.wrap(text, max(NARROWEST, width - column)) or [""]
        if len(start) >= column:
            made.append(start)
            start = ""
        made.append(f"{start:{column}}{wrapped[0]}".rstrip())
        made += [" " * column + more for more in wrapped[1:]]
    return [*made, ""]


if __name__ == "__main__":
    main()
