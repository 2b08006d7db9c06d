"""Work in a forked process that can be limited, run as another user or killed.

A fork needs no imports, which a child that may not read files could not do.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

# pooch imports requests lazily, which fails in a child without permission to read files.
import requests  # noqa: F401
import torch

from nelbo.errors import NelboError

TIMEOUT = 300


class Child:
    """A forked process that calls `work` and reports how it ended.

    Its exit status is 0 with the returned value as output, 2 with the message of a `NelboError`, or 1 with a traceback;
    after `TIMEOUT` seconds SIGALRM ends it.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        self.reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # instead of the handler that pytest-timeout set
            signal.alarm(TIMEOUT)
            torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
            try:
                status, output = 0, str(work())
            except NelboError as error:
                status, output = 2, str(error)
            except BaseException:
                status, output = 1, traceback.format_exc()
            os.write(writer, output.encode())
            os._exit(status)
        os.close(writer)

    def wait(self) -> tuple[int, str]:
        """Return the exit status (negative: the signal that killed it) and the output."""
        with os.fdopen(self.reader) as reader:
            output = reader.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), output

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
