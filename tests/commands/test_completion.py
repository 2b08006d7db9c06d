"""Completion of the command, in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nelbo.commands import explore, fold, impute, replay, report, sample
from nelbo.commands.completion import KEYS_OF_FILES, PLAIN_KEYS, matching
from nelbo.commands.parser import Parser
from tests.helpers.forks import ROOT

COMMAND = str(Path(sys.executable).parent)

BASH = """
source <(nelbo completion bash)
COMP_LINE={line!r} COMP_POINT={length} COMP_TYPE=9
COMP_WORDS=({line}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_python_argcomplete nelbo
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
zmodload zsh/zpty
zpty shell 'PS1= zsh -f -i'
zpty -w shell 'autoload -U compinit && compinit -u -D && source <(nelbo completion zsh) && bindkey "^I" complete-word'
sleep 4
zpty -w -n shell {line!r}$'\\t'
sleep 6
zpty -r -t shell output; while zpty -r -t shell more; do output+=$more; done
print -r -- $output
"""


def ask(shell: str, script: str) -> str:
    environment = {**os.environ, "PATH": f"{COMMAND}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"}
    done = subprocess.run([shell, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nelbo tr", ["train "]),
        ("nelbo train mod", ["model="]),
        ("nelbo train model=conv", ["conv_vae "]),
        ("nelbo draw tra", ["traversal "]),
    ],
)
def test_bash(line: str, expected: list[str]) -> None:
    needs("bash")
    answer = ask("bash", BASH.format(line=line, length=len(line)))
    assert [entry for entry in answer.split("\n") if entry] == expected


def test_fish() -> None:
    needs("fish")
    script = "nelbo completion fish | source; complete -C 'nelbo train model='; complete -C 'nelbo ev'"
    words = ask("fish", script).split()
    assert {"model=conv_vae", "model=mlp_vae", "evaluate"} <= set(words)


def test_zsh() -> None:
    needs("zsh")
    assert "nelbo train model=" in ask("zsh", ZSH.format(line="nelbo train mod"))


@pytest.mark.parametrize(
    ("command", "prefix", "before", "expected"),
    [
        ("train", "objective.be", (), ["objective.beta="]),
        ("train", "hydra/laun", (), ["hydra/launcher="]),
        ("train", "hydra/sweeper=s", (), ["hydra/sweeper=surface"]),
        ("train", "model=linear_vae,ml", (), ["model=linear_vae,mlp_vae"]),
        ("train", "logger=[te", (), ["logger=[tensorboard"]),
        ("train", "data.shuffle=", (), ["data.shuffle=true", "data.shuffle=false"]),
        ("train", "objective.beta=", (), ["objective.beta=1.0"]),
        ("train", "--multi", (), ["--multirun"]),
        ("train", "resume=src/nelbo/err", (), ["resume=src/nelbo/errors.py"]),
        ("evaluate", "run=src/nelbo/th", (), ["run=src/nelbo/theory/"]),
        ("evaluate", "run=nowhere/at", (), []),
        ("evaluate", "metrics=[ni", (), []),
        ("evaluate", "metrics=[nl", (), ["metrics=[nll"]),
        ("draw", "sam", (), ["samples"]),
        ("draw", "sam", ("samples",), []),
        ("data", "fe", (), ["fetch"]),
        ("data", "cifar", ("fetch",), ["cifar10", "cifar100"]),
        ("fold", "at.", (), ["at.beta=", "at.latent_dim="]),
        ("fold", "run=src/nelbo/th", (), ["run=src/nelbo/theory/"]),
        ("impute", "da", (), ["data.path="]),
        ("sample", "ro", (), ["rows="]),
        ("report", "sw", (), ["sweep="]),
        ("replay", "b", (), ["bundle="]),
        ("reproduce", "ro", (), ["row="]),
        ("reproduce", "row=ladder", (), ["row=ladder2016", "row=ladder2016_short"]),
        ("reproduce", "l", (), ["list", "limit="]),
        ("reproduce", "lim", (), ["limit="]),
    ],
)
def test_what_a_prefix_is_completed_to(command: str, prefix: str, before: tuple[str, ...], expected: list[str]) -> None:
    assert matching(command, prefix, before) == expected


@pytest.mark.parametrize(
    ("command", "parser"),
    [
        ("explore", explore.parser()),
        ("fold", fold.parser()),
        ("impute", impute.parser()),
        ("sample", sample.parser()),
        ("replay", replay.parser()),
        ("report", report.parser()),
    ],
)
def test_all_keys_of_a_command_are_completed(command: str, parser: Parser) -> None:
    assert set(PLAIN_KEYS[command]) == set(parser.keys)
    assert {"run", "with", "sweep"} <= set(KEYS_OF_FILES)


def test_an_answer_takes_less_than_a_second_of_processor_time(tmp_path: Path) -> None:
    line = "nelbo train objective."
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    environment |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}
    before = os.times()
    subprocess.run([f"{COMMAND}/nelbo"], env=environment, cwd=ROOT, check=True)
    after = os.times()
    assert "objective.beta=" in (tmp_path / "answer").read_text()
    assert after.children_user - before.children_user + after.children_system - before.children_system < 1
