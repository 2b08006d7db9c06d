"""Signals that ask a run to stop; during training it finishes its step and writes a checkpoint first."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from nelbo.errors import NelboError, Stopped

log = logging.getLogger(__name__)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
FINAL_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals after which the process is not started again."""

RESPONSE_CHECKS, SECONDS_BETWEEN_CHECKS = 40, 0.05
"""How often, and at what interval, the thread checks whether the main thread has handled a signal outside training.

Python runs signal handlers between bytecode instructions only, not while C++ code waits, for other processes for
instance.
"""

_has_wakeup_fd = False
"""Whether this process writes the numbers of signals to a socket."""


class Signals:
    """A context in which SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1 (by convention Slurm's) stop the run.

    So does SIGUSR2 if it already has a handler (submitit's, which requeues its job): that handler is called once the
    run has written its checkpoint.

    During training a signal is recorded in `received`, and `Stopped` is raised after the step. Outside training, and at
    a second signal, `Stopped` is raised immediately. If the main thread cannot raise it because it waits in C++ for
    another process, a second thread ends the process. A signal that is ignored already, as SIGHUP is under nohup, stays
    ignored.
    """

    def __init__(self) -> None:
        self.received = 0
        """The number of the signal that asks the run to stop; 0 without one."""
        self.before_exit: Callable[[], None] = lambda: None
        """Called before the process is ended by the second thread."""
        self._deferred = False
        self._previous: dict[signal.Signals, Any] = {}
        self._writer: socket.socket | None = None

    def __enter__(self) -> Signals:
        signums = list(STOP_SIGNALS)
        if callable(signal.getsignal(signal.SIGUSR2)):
            signums.append(signal.SIGUSR2)
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in this thread only
            previous = {signum: signal.getsignal(signum) for signum in signums}
            self._previous = {key: handler for key, handler in previous.items() if handler != signal.SIG_IGN}
            self._start_watching()
        self.install(deferred=False)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        for signum, handler in self._previous.items():
            # None is a handler that was not installed from Python and cannot be restored.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        if self._writer is not None:
            _reset_wakeup_fd()
            self._writer.close()
        requeues: Callable[[int, None], Any] | None = self._previous.get(signal.SIGUSR2)
        if isinstance(error, Stopped) and error.signum == signal.SIGUSR2 and requeues is not None:
            requeues(signal.SIGUSR2, None)

    def install(self, *, deferred: bool) -> None:
        """Install the handlers, replacing any others.

        Args:
            deferred: whether the first signal is only recorded in `received`.
        """
        self._deferred = deferred
        for signum in self._previous:
            signal.signal(signum, self._handle)

    def _start_watching(self) -> None:
        """Start a thread that receives the number of each signal through a socket, which the system writes to."""
        previous = signal.set_wakeup_fd(-1)
        if previous != -1:  # it belongs to an event loop, which handles signals itself
            signal.set_wakeup_fd(previous)
            return
        global _has_wakeup_fd
        _has_wakeup_fd = True
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reader,), daemon=True).start()

    def _watch(self, reader: socket.socket) -> None:
        """End the process if the main thread does not handle a signal."""
        with reader:
            while number := reader.recv(1):
                signum = number[0]
                if signum not in self._previous or signum not in FINAL_SIGNALS or self._deferred:
                    continue
                for _ in range(RESPONSE_CHECKS):
                    if self.received:
                        break
                    time.sleep(SECONDS_BETWEEN_CHECKS)
                if self.received:
                    continue
                if self._deferred:  # training has begun, and the signal reached Lightning's handler, not ours
                    self.received = signum
                    continue
                if signum == signal.SIGHUP:
                    leave_terminal()
                log.error("stopped by %s, outside training", signal.Signals(signum).name)
                self.before_exit()
                os._exit(128 + signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGHUP:
            leave_terminal()
        immediately = bool(self.received) or not self._deferred
        self.received = signum
        if immediately:
            raise Stopped(signum)


def _reset_wakeup_fd() -> None:
    global _has_wakeup_fd
    if _has_wakeup_fd:
        signal.set_wakeup_fd(-1)
        _has_wakeup_fd = False


# A forked process shares the socket of its parent, which must not receive the signals of the child.
os.register_at_fork(after_in_child=_reset_wakeup_fd)


def leave_terminal() -> None:
    """Redirect stdout and stderr to os.devnull if their terminal was closed, because writing to it raises an error."""
    with open(os.devnull, "wb") as devnull, contextlib.suppress(OSError):  # raised if a stream was never open
        for stream in (1, 2):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(devnull.fileno(), stream)


def requeue(job: str) -> None:
    """Ask Slurm to start a job again; the run then resumes in its directory.

    Args:
        job: the job's ID.

    Raises:
        NelboError: if Slurm refuses; the checkpoint is written nevertheless.
    """
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        raise NelboError(f"scontrol requeue {job}: {error.strerror}; the checkpoint is written") from error
    if done.returncode:
        raise NelboError(f"scontrol requeue {job}: exit status {done.returncode}: {done.stderr.strip()}")
    log.info("asked Slurm to start job %s again", job)
