"""What `--help` prints: the text of a command's primary config, its groups with their options, and its values."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence

from nelbo.composing.command import Command
from nelbo.papers.rows import SHORT
from nelbo.terminal.programs import program

WIDEST = 120
"""Columns that help takes at most, however wide the terminal is."""

INDENT = "  "


def print_help(command: Command) -> None:
    """Print what a command does, wrapped at the terminal's width."""
    print(help_text(command, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)))


def help_text(command: Command, width: int) -> str:
    """Return the help of a command.

    Args:
        command: the command.
        width: columns of the terminal.
    """
    text = command.help_template
    for match in dict.fromkeys(re.findall(r"python (?:train|scripts/\w+)\.py", text)):
        name = re.sub(r"python (?:scripts/)?|\.py", "", match)
        text = text.replace(match, program(name))
    lines = "\n".join(line for part in paragraphs(text.rstrip().split("\n")) for line in wrapped(part, width))
    lines = lines.replace("$APP_CONFIG_GROUPS", groups(command, width))
    return lines.replace("$CONFIG", command.yaml.rstrip())


def paragraphs(lines: Sequence[str]) -> list[str]:
    """Return the lines of a text with those of each paragraph joined; indented lines and headings stay apart."""
    joined: list[str] = []
    for line in lines:
        is_prose = line[:1].isalpha() or line[:1] in "`("
        if is_prose and joined and joined[-1][:1].isalpha() and not joined[-1].endswith((":", ".")):
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return joined


def groups(command: Command, width: int) -> str:
    """Return a table of the groups that a command takes and of their options; a star marks each default."""
    chosen = command.defaults
    longest = max(map(len, chosen))
    lines = []
    for group in sorted(chosen):
        default = chosen[group] if isinstance(chosen[group], list) else [chosen[group]]
        names = with_endings(command.options(group))
        options = ", ".join(f"{option}*" if option in default else option for option in names)
        first = f"{INDENT}{group:<{longest}}  "
        lines += textwrap.wrap(
            options,
            max(width, len(first) + 20),
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_on_hyphens=False,
        )
    return "\n".join([*lines, "", f"{INDENT}* the default"])


def with_endings(options: Sequence[str]) -> list[str]:
    """Return the names of options, with those of a row and of its short form as one.

    Examples:
        >>> with_endings(["ladder2016", "ladder2016_short", "none"])
        ['ladder2016[_short]', 'none']
    """
    shortened = [option for option in options if f"{option}{SHORT}" in options]
    merged = [f"{option}[{SHORT}]" if option in shortened else option for option in options]
    return [name for name in merged if name.removesuffix(SHORT) not in shortened]


def wrapped(line: str, width: int) -> list[str]:
    """Return a line of help as lines of at most `width` columns; what is in a second column stays in that.

    A word that is longer than a line stays whole, for commands are copied.
    """
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    columns = re.match(r"\s*\S+(?: \S+)*\s{2,}", line)
    hanging = indent + (INDENT if indent else "")
    if indent and columns is not None and columns.end() <= width - 20:
        hanging = " " * columns.end()
    return textwrap.wrap(
        line,
        width,
        initial_indent="",
        subsequent_indent=hanging,
        drop_whitespace=True,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
