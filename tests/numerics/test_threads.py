"""CPU threads on a machine that others use too."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nelbo.numerics.threads import SPINS, busy_message, limit_spinning, load_beside_this_process
from tests.helpers.forks import ROOT


def test_idle_threads_sleep_soon_unless_the_user_decided_otherwise() -> None:
    environment: dict[str, str] = {}
    limit_spinning(environment)
    assert environment == {"GOMP_SPINCOUNT": SPINS}
    for name, value in (("GOMP_SPINCOUNT", "7"), ("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")):
        environment = {name: value}
        limit_spinning(environment)
        assert environment == {name: value}


def test_a_command_limits_spinning_before_torch_is_loaded() -> None:
    code = (
        "import os, sys\n"
        "sys.argv = ['train.py', 'model=nothing']\n"
        "from nelbo.commands.train import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    kept = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True)
    assert done.stdout.split() == [SPINS, "False"], done.stderr


@pytest.mark.parametrize(
    ("threads", "cores", "load", "warns"),
    [(2, 2, 1.5, True), (2, 2, 0.2, False), (1, 2, 5.0, False), (16, 64, 20.0, False), (2, 2, None, False)],
)
def test_a_busy_machine_is_named_where_threads_would_suffer(
    threads: int, cores: int, load: float | None, warns: bool
) -> None:
    message = busy_message(threads, cores, load)
    assert (message is not None) == warns
    if message:
        assert "threads=1" in message and f"about {load:.1f} of its {cores} cores" in message


def test_the_load_of_this_process_is_not_that_of_others() -> None:
    load = load_beside_this_process()
    assert load is not None and 0 <= load <= os.getloadavg()[0]
