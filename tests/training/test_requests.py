"""Processes that train together agree on signals and checkpoints, at once or one call later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.forks import ROOT

PROCESS = """
import json, sys
from pathlib import Path
import torch
from torch import distributed
from nelbo.numerics import devices
from nelbo.training.callbacks.requests import Requests

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", world_size=2, rank=rank)
kinds = {}
for kind in ("at once", "late"):
    if kind == "late":
        devices.reads_freely = lambda device: False
    requests, answers = Requests(torch.device("cpu")), []
    for call in range(6):
        signum = 15 if rank == 1 and call >= 2 else 0  # as long as the run goes on
        answers.append(requests.exchange(signum, rank == 0 and call == 0))
    answers.append(requests.exchange(10 * rank, False, at_once=True))
    answers.append(requests.exchange(0, False))  # the answer to the call before was given
    answers.append(requests.exchange(0, rank == 1))
    requests.forget()
    answers.append(requests.exchange(0, False))
    kinds[kind] = answers
(folder / f"{rank}.json").write_text(json.dumps(kinds))
distributed.destroy_process_group()
"""
AT_ONCE = [[0, True], [0, False], *[[15, False]] * 4, [10, False], [0, False], [0, True], [0, False]]
LATE = [[0, False], [0, True], [0, False], *[[15, False]] * 3, [10, False], [0, False], [0, False], [0, False]]


def test_all_processes_get_the_same_answers(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), str(tmp_path)], cwd=ROOT) for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    expected = {"at once": AT_ONCE, "late": LATE}
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [expected] * 2
