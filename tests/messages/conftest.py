"""What the tests of messages share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from nelbo.errors import NelboError
from nelbo.messages.explain import explain
from tests.helpers.command_lines import SCRIPTS, command, composed


@pytest.fixture
def message_for(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The message for a command line, which is one line; empty if the command line is valid."""

    def message(line: str | list[str], primary: str = "config") -> str:
        arguments = shlex.split(line) if isinstance(line, str) else line
        monkeypatch.setattr(sys, "argv", [SCRIPTS[primary], *arguments])
        try:
            composed(arguments, primary)
        except (NelboError, HydraException, OmegaConfBaseException, ValueError) as error:
            text = explain(error, command(primary))
            assert len(text.splitlines()) == 1
            return text
        return ""

    return message
