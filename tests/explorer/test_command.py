"""The command `nelbo explore`: what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from nelbo.commands import explore as command
from nelbo.finished.arguments import run_paths
from tests.helpers.forks import ROOT, forked

SMALL = ("model=mlp_vae", "trainer=smoke", "callbacks=none", "logger=none")


def refused(*arguments: str) -> str:
    """Return the one line of an error."""
    done = forked("scripts/explore.py", *arguments)
    assert done.returncode == 2 and not done.stdout and len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


def start(arguments: Sequence[str]) -> tuple[subprocess.Popen[str], str]:
    """Start the command; return the process and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "scripts/explore.py", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "open http://127.0.0.1:" in line, process.communicate()
    return process, line.split("open ")[1].split()[0]


def test_it_prints_its_address_and_ends_by_ctrl_c(smoke_run: Path) -> None:
    process, address = start([f"run={smoke_run}"])
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert "Latent explorer: run" in answer.read().decode()
        port = int(address.rstrip("/").rpartition(":")[2])
        others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
        for other in others:  # it listens on 127.0.0.1 alone
            with socket.socket() as probe:
                probe.settimeout(5)
                assert probe.connect_ex((str(other), port)) != 0
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "ended\n", "")
    finally:
        process.kill()
        process.wait()


def test_it_ends_by_itself_after_idle_time(smoke_run: Path) -> None:
    started = time.monotonic()
    done = forked("scripts/explore.py", f"run={smoke_run}", "idle_minutes=0.03")
    assert (done.returncode, done.stderr) == (0, "") and time.monotonic() - started < 120
    first, last = done.stdout.splitlines()
    assert first.startswith("run: open http://127.0.0.1:") and first.endswith("after 0.03 minutes without a request")
    assert last == "ended: no request for 0.03 minutes"


def test_bad_arguments_are_refused_in_one_line(smoke_run: Path, tmp_path: Path) -> None:
    run = f"run={smoke_run}"
    assert refused().startswith("error: usage: python scripts/explore.py run=PATH")
    assert "no such" in refused(f"run={tmp_path / 'nowhere'}").lower() or "checkpoint" in refused(f"run={tmp_path}")
    assert refused(run, "port=70000") == "error: port=70000: must be at most 65535"
    assert refused(run, "split=tset") == "error: split=tset: must be one of test, val, train"
    assert refused(run, "images=0") == "error: images=0: must be a whole number of at least 1"
    assert refused(run, "idle_minutes=-1") == "error: idle_minutes=-1.0: must be a finite number of at least 0"
    assert refused(run, "at.beta=1").startswith("error: at.beta=1: this model takes none")
    assert "must be a number" in refused(run, "at.beta=x")
    assert refused(f"run=[{smoke_run},{smoke_run},{smoke_run}]").endswith("are 3 runs; the page has room for 2")
    assert refused(run, "prot=1").startswith("error: prot=1: unknown argument; ")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused(run, f"port={port}").startswith(f"error: port={port}: cannot be used: Address already in use")


def test_models_without_pictures_or_numbers_name_what_to_use_instead(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "".join(f"{row % 7},{row % 5}\n" for row in range(60)))
    runs = {
        "table": ["data=table", f"data.path={table}"],
        "codes": ["data=digits", "posterior=vector_quantized", "prior=categorical", "objective=vq_vae"],
        "labels": ["data=digits", "conditioning=semi_supervised", "objective=semi_supervised", "data.labelled=100"],
    }
    for name, arguments in runs.items():
        done = forked("train.py", *SMALL, *arguments, f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    tables, codes, labels = (refused(f"run={tmp_path / name}") for name in runs)
    assert tables.endswith("was trained on a table, which has no pictures; use nelbo sample or nelbo impute")
    hint = "has codes of classes, which are no numbers to drag; use nelbo draw traversal or nelbo draw samples"
    assert codes == f"error: run={tmp_path / 'codes'}: {hint}"
    hint = "infers a label, which is no number to drag; use nelbo draw every_class or nelbo draw by_class"
    assert labels == f"error: run={tmp_path / 'labels'}: {hint}"


def test_two_runs_need_the_same_images(smoke_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    done = forked("train.py", *SMALL, "data=digits", "data.seed=5", f"hydra.run.dir={other}")
    assert done.returncode == 0, done.stderr
    line = refused(f"run=[{smoke_run},{other}]")
    assert line.endswith(
        f"error: run={other}: has other images than {smoke_run}: split_seed is 5 and 0; explore one run at a time"
    )


def test_missing_packages_are_named(
    smoke_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "argv", ["nelbo", f"run={smoke_run}"])
    with pytest.raises(SystemExit) as end:
        command.main()
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.err == "error: the page needs packages: pip install starlette uvicorn\n"


def test_runs_are_one_path_a_list_or_a_pattern(tmp_path: Path, smoke_run: Path) -> None:
    (comma := tmp_path / "0-latent_dim=2,beta=4").mkdir()
    assert run_paths(str(comma)) == [str(comma)]
    assert run_paths(f"[{comma},{smoke_run}]") == [str(comma), str(smoke_run)]
    assert run_paths(f"{smoke_run.parent}/r*") == [str(smoke_run)]
