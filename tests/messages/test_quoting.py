"""Overrides in messages are quoted so that a shell and Hydra read the same text."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from nelbo.composing.compat import parse_override
from nelbo.config.quoting import quoted
from nelbo.messages.shell import as_text, for_shell
from nelbo.running.resume import how_to_resume
from tests.helpers.forks import forked
from tests.helpers.interrupted import SMALL

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12) | st.text("a\\'\"${}[],= ", max_size=12)


def value_of(override: str) -> object:
    """The value of an override, resolved."""
    return OmegaConf.create({"key": parse_override(override).value()}).key


@given(TEXTS)
def test_a_quoted_value_is_read_as_the_same_text(text: str) -> None:
    assert value_of(f"key={quoted(text)}") == text


@given(TEXTS.filter(lambda text: "\0" not in text))
def test_an_override_quoted_for_a_shell_is_read_as_the_same_text(text: str) -> None:
    (argument,) = shlex.split(as_text("key", text))
    assert value_of(argument) == text
    assert shlex.split(for_shell(text)) == [text]


NAMES = ["my run", "run [v1]", "läuft=gut", "it's", "a,b", "2024", "null", "${seed}", "back\\slash", 'q"uote', "$HOME"]


@pytest.mark.parametrize("name", NAMES)
def test_the_printed_resume_command_names_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / name / "checkpoints" / "last.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=3", f"hydra.run.dir={quoted(name)}"])
    printed = how_to_resume(tmp_path / name).removeprefix("to resume: ")
    by_shell = subprocess.run(
        ["bash", "-c", f"python() {{ printf '%s\\0' \"$@\"; }}; {printed}"], capture_output=True, text=True, check=True
    )
    _, *arguments, directory, resume = by_shell.stdout.split("\0")[:-1]
    assert arguments == ["seed=3"] and resume == "resume=auto"
    assert str(value_of(directory)) == name


def test_the_printed_resume_command_resumes_the_run_when_it_is_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "läufe [v1]" / "it's=mine"
    arguments = (*SMALL, "trainer.max_epochs=2")
    done = forked("tests/helpers/stopping.py", "train:3:SIGTERM", *arguments, f"hydra.run.dir={quoted(str(folder))}")
    assert done.returncode == 143, done.stderr
    (printed,) = [line for line in done.stderr.splitlines() if "to resume: " in line]
    pasted = shlex.split(printed.partition("to resume: ")[2])
    assert pasted[:2] == ["python", "train.py"]
    done = forked(*pasted[1:])
    assert done.returncode == 0 and (folder / "metrics.json").is_file(), done.stderr
    assert "resuming from " in (folder / "train.log").read_text()


def test_a_checkpoint_given_to_resume_leads_to_the_run_that_it_belongs_to(smoke_run: Path) -> None:
    done = forked("train.py", *SMALL, f"resume={smoke_run / 'checkpoints' / 'last.ckpt'}")
    assert done.returncode == 2 and done.stderr.endswith(f"did you mean resume={smoke_run}?\n"), done.stderr
