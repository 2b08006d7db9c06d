"""CPU threads on a machine that other programs use too. Imports no torch, for it acts before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

SPINS = "20000"
"""How often an idle thread of OpenMP looks for work before it sleeps.

GNU OpenMP, which torch's CPU builds use, lets idle threads look for milliseconds. On a quiet machine that saves the
time to wake them; where other programs compute, the threads that look take the cores from those that work.
`benchmarks/threads.py` measures both.
"""

CHOSEN_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")
"""Variables with which a user decides how idle threads wait."""

BUSY = 0.5
"""Running programs of others, for each core, from which a machine counts as busy."""


def limit_spinning(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let idle threads of OpenMP sleep soon, unless the user has decided how they wait.

    It has an effect only before torch is imported, and in processes that are started from this one.

    Args:
        environment: the variables to set.
    """
    if not any(name in environment for name in CHOSEN_BY_USER):
        environment["GOMP_SPINCOUNT"] = SPINS


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_beside_this_process() -> float | None:
    """Return how many programs ran or waited for a core in the last minute, this process not counted; None if unknown.

    The load of this process is at most its CPU time of the last minute, which is at most that of its whole life.
    """
    try:
        load = os.getloadavg()[0]
    except OSError:  # the system does not say
        return None
    own = sum(os.times()[:2]) / 60
    return max(0.0, load - own)


def busy_message(threads: int, cores: int, load: float | None) -> str | None:
    """Return what to log where other programs use the cores that a run needs; None where they do not.

    Args:
        threads: CPU threads of the run.
        cores: CPU cores that it may use.
        load: as `load_beside_this_process` returns it.
    """
    if load is None or threads == 1 or load < BUSY * cores:
        return None
    return (
        f"this machine is busy: other programs use about {load:.1f} of its {cores} cores; training with {threads} "
        "threads may be several times slower than threads=1"
    )
