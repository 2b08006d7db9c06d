"""A diverging run stops at the step, names it, saves only finite values, and can be replayed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nelbo.finished.replay import replay
from tests.helpers.forks import ROOT, forked, train_all

SMALL = ["model=mlp_vae", "data=digits", "trainer.max_epochs=3", "callbacks=none", "logger=none"]
HOSTILE = {
    "rate": ["optimizer.lr=1e6"],
    "huge": ["optimizer.lr=1e30"],
    "unvalidated": ["optimizer.lr=1e30", "data.validation_size=0"],
    "weight": ["objective.beta=1e38"],
    "flow": ["optimizer.lr=1e6", "posterior=flow", "prior=mixture"],
}
ONE_LINE = re.compile(r"error: training diverged (at|by) step \d+ \(epoch \d+.*\): .+; lower optimizer.lr.*")


def tensors(content: Any) -> list[torch.Tensor]:
    """Return all tensors in a tree of plain containers."""
    if isinstance(content, torch.Tensor):
        return [content]
    children = content.values() if isinstance(content, dict) else content if isinstance(content, list | tuple) else ()
    return [tensor for child in children for tensor in tensors(child)]


def test_nan_guard(tmp_path: Path) -> None:
    check(tmp_path, "rate")


@pytest.mark.slow
def test_nan_guard_for_every_cause(tmp_path: Path) -> None:
    check(tmp_path, *HOSTILE)


def check(tmp_path: Path, *names: str) -> None:
    """Run the named configs and check their error, their files and the replay of their crash bundles."""
    runs = {name: [*SMALL, *HOSTILE[name], f"hydra.run.dir={tmp_path / name}"] for name in names}
    for name, done in train_all(runs, tmp_path).items():
        assert done.returncode == 2, (name, done.stderr)
        last = done.stderr.strip().splitlines()[-1]
        assert ONE_LINE.search(last) and "Traceback" not in done.stderr, (name, done.stderr)
        assert not (tmp_path / name / "metrics.json").exists()
        for file in (tmp_path / name).rglob("*.ckpt"):
            assert all(value.isfinite().all() for value in tensors(torch.load(file, weights_only=True))), file
        bundles = list((tmp_path / name).rglob("crash/*.pt"))
        assert len(bundles) == (" at step " in last), (name, last)
        for bundle in bundles:
            assert f"bundle={bundle}" in last or bundle.name in last
            again = forked("scripts/replay.py", f"bundle={bundle}")
            assert again.returncode == 0 and "reproduced, bit for bit" in again.stdout, (name, again.stdout)


def test_nan_guard_refuses_a_bad_bound(tmp_path: Path) -> None:
    done = forked("train.py", *SMALL, "guard.skip_above=-1", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2 and "error: guard.skip_above=-1: " in done.stderr and "Traceback" not in done.stderr


RANK = """
import sys
from pathlib import Path
from nelbo.errors import Diverged
from tests.helpers.diverging import Poke, Training, infinite_kl, infinite_loss

rank, folder, change = int(sys.argv[1]), Path(sys.argv[2]), {"loss": infinite_loss, "kl": infinite_kl}[sys.argv[3]]
poke = Poke(change, *([2] if rank == 1 else []))
try:
    Training(folder, "trainer.strategy=ddp", "trainer.devices=2", *sys.argv[4:], callbacks=(poke,)).fit()
except Diverged as error:
    print(error)
"""


SPOILT = {
    "loss": (["loss"], "reconstruction is inf"),
    # The KL is averaged over processes, so that the loss of each becomes infinite.
    "kl": (["kl", "objective=capacity"], "kl is inf"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPOILT)
def test_nan_guard_of_several_processes(tmp_path: Path, name: str) -> None:
    """The loss of the second process is infinite: only it writes, and the first does not wait for it."""
    arguments, cause = SPOILT[name]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, rank, str(tmp_path), *arguments],
            cwd=ROOT,
            env={**os.environ, **environment, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    first, second = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], (first[1], second[1])
    assert "training diverged at step 2" in first[0] and "the cause is in another process" in first[0], first
    assert cause in second[0] and "step-000002-rank-1.pt" in second[0], second
    (bundle,) = (tmp_path / "crash").iterdir()
    assert replay(bundle).is_exact
