"""The command `nelbo` before its first word has chosen what to do."""

from __future__ import annotations

import sys

import pytest

from nelbo import __version__
from nelbo.commands.help import help_text, wrapped
from nelbo.commands.main import COMMANDS, main
from nelbo.composing.command import Command
from nelbo.composing.places import SHIPPED


def ended(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        main(words)
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = ended(["--help"], capsys)
    assert status == 0 and all(f"    {name}" in output for name in COMMANDS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["--version"], capsys)[:2] == (0, f"nelbo {__version__}\n")


def test_an_unknown_command_names_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = ended(["trian"], capsys)
    assert status == 2 and "trian" in errors and "train" in errors and "replay" in errors


def test_windows_is_refused_in_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    status, output, errors = ended(["train"], capsys)
    assert (status, output, len(errors.splitlines())) == (2, "", 1) and "WSL" in errors


@pytest.mark.parametrize("primary", ["config", "evaluate", "draw"])
@pytest.mark.parametrize("width", [60, 100, 120])
def test_help_fits_the_terminal_and_lists_the_groups_of_the_command(
    primary: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["nelbo"])
    command = Command("nelbo train", SHIPPED, primary)
    text = help_text(command, width)
    config = command.yaml.splitlines()
    wide = [line for line in text.splitlines() if len(line) > width and len(line.split()) > 1 and line not in config]
    assert not wide
    assert "python " not in text and "$" not in text.replace("${", "")
    if primary == "config":
        groups = {line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.strip()}
        assert {"model", "data", "likelihood"} <= groups and not {"metrics", "picture", "extractor"} & groups
        assert "conv_vae*" in text and "mnist*" in text


def test_a_second_column_stays_a_column() -> None:
    assert wrapped("  key=VALUE   what it means in so many words of explanation", 40) == [
        "  key=VALUE   what it means in so many",
        "              words of explanation",
    ]
