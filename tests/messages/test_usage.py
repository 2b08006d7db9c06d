"""The help of the commands, and their messages for unknown and missing arguments."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.forks import ROOT, forked


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_a_closed_pipe_is_no_error(arguments: list[str]) -> None:
    """As in `python train.py --help | head -2`; here the pipe is closed before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "train.py", *arguments], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_commands_print_their_help_and_name_invalid_arguments() -> None:
    for name in ("data", "fold", "report", "replay", "contrast", "overview"):
        done = forked(f"scripts/{name}.py", "--help")
        assert done.returncode == 0 and f"python scripts/{name}.py" in done.stdout and not done.stderr
    for name, arguments, message in (
        ("report", "sweep=X foo=1", "foo=1: unknown argument; usage: "),
        ("report", "sweeps=X", "sweeps=X: unknown argument; did you mean sweep? usage: "),
        ("report", "sweep=X extra", "extra: unknown argument; usage: "),
        ("fold", "run=X ot=y", "ot=y: unknown argument; did you mean out? usage: "),
        ("fold", "run=X at.beta=1", "out=... is missing; usage: "),
        ("replay", "bundle=X foo=1", "foo=1: unknown argument; usage: "),
        ("contrast", "run=foo", "run=foo: unknown argument; usage: "),
        ("contrast", "vae=foo out=x", "autoencoder=... is missing; usage: "),
        ("overview", "run=foo", "out=... is missing; usage: "),
        ("overview", "run=nope out=x.png", "run=nope: no such checkpoint; give a run directory or a .ckpt file"),
        ("evaluate", "run=nope", "run=nope: no such checkpoint; give a run directory or a .ckpt file"),
        ("evaluate", "run=conf", "run=conf: conf/checkpoints/best.ckpt: no such checkpoint; give a run directory"),
        ("evaluate", "run=nope limit=0.5", "limit=0.5: must be a whole number of at least 1"),
        ("evaluate", "run=nope num_samples=0", "num_samples=0: must be a whole number of at least 1"),
        ("draw", "samples run=", "run=: no such checkpoint; give a run directory or a .ckpt file"),
    ):
        done = forked(f"scripts/{name}.py", *arguments.split())
        assert done.returncode == 2 and done.stderr.startswith(f"error: {message}"), done.stderr
    for name, key in (("report", "sweep"), ("replay", "bundle")):
        done = forked(f"scripts/{name}.py", "some/where")
        assert done.returncode == 2 and done.stderr.startswith(f"error: did you mean {key}=some/where? usage: ")
