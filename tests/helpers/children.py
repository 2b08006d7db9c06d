"""Work in a process of its own that can be limited, demoted or killed: a fork, for nothing is imported again."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

# pooch imports requests when it is called, which a child that may not read would be too late for.
import requests  # noqa: F401
import torch

from nelbo.errors import NelboError


class Child:
    """Does `work`; ends with status 0 and what it returned, 2 and what a NelboError said, or 1 and a traceback."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            torch.set_num_threads(1)  # OpenMP's threads are not there after a fork
            try:
                status, said = 0, str(work())
            except NelboError as error:
                status, said = 2, str(error)
            except BaseException:
                status, said = 1, traceback.format_exc()
            os.write(writer, said.encode())
            os._exit(status)
        os.close(writer)

    def wait(self) -> tuple[int, str]:
        """How it ended (minus the signal where it was killed), and what it said."""
        with os.fdopen(self.reader) as reader:
            said = reader.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), said

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
