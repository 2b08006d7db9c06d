"""Two processes train together and one is ended: both end soon, and the run can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nelbo.checkpoints.record import read_checkpoint
from tests.helpers.forks import ROOT
from tests.helpers.interrupted import SMALL
from tests.helpers.processes import alive, wait_for

PATIENCE = 30.0
LONG = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=64", "trainer.max_epochs=10000")


@pytest.mark.parametrize(
    ("signum", "rank"),
    [
        (signal.SIGTERM, 1),
        *(
            pytest.param(signum, rank, marks=pytest.mark.slow)
            for signum, rank in ((signal.SIGTERM, 0), (signal.SIGKILL, 0), (signal.SIGKILL, 1))
        ),
    ],
)
def test_ddp_death(tmp_path: Path, signum: signal.Signals, rank: int) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    command = [sys.executable, "train.py", *SMALL, *LONG, f"hydra.run.dir={tmp_path}"]
    with (tmp_path / "output").open("w") as stream:
        ranks = [subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True)]
    try:
        wait_for(last.exists, 120)
        (child,) = children(ranks[0].pid)
        killed = time.monotonic()
        os.kill((ranks[0].pid, child)[rank], signum)
        status = ranks[0].wait(PATIENCE)
        wait_for(lambda: not alive(child), PATIENCE - (time.monotonic() - killed))
    finally:
        os.killpg(ranks[0].pid, signal.SIGKILL) if ranks[0].poll() is None or alive(child) else None
    output = (tmp_path / "output").read_text()
    assert "Traceback" not in output, output
    if signum == signal.SIGTERM:
        assert status == 143 and "stopped by SIGTERM" in output, output
    else:
        assert status == (-9 if rank == 0 else 2), output
        assert "error: a process of this run ended, and the others with it" in output
    assert read_checkpoint(last)["global_step"] > 0


def children(pid: int) -> list[int]:
    """Return the child processes of `pid` that run train.py."""
    numbers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(number) for number in numbers if b"train.py" in Path(f"/proc/{number}/cmdline").read_bytes()]
