"""Signals that ask a run to stop: while it trains it first ends its step and saves itself."""

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
ASK_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
FORCED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Those after which nobody starts the process again."""

ANSWER_LOOKS, SECONDS_BETWEEN_LOOKS = 40, 0.05
"""How often to look whether the main thread has answered a signal outside training, and seconds between. Python calls
handlers between two of its own steps: not while it waits in C++, for other processes for instance."""

_listening = False
"""Whether this process writes the numbers of signals to a socket."""


class Signals:
    """A context in which SIGTERM, SIGINT (Ctrl-C), SIGHUP and SIGUSR1 (Slurm's, by custom) stop the run.

    So does a SIGUSR2 that somebody waits for already (submitit, which requeues its job): it is handed on once the run
    has saved itself.

    Outside training, or when asked twice, `Stopped` is raised at once; where that cannot be, as the process waits in
    C++ for another that never comes, a thread ends the process. What is ignored already, as SIGHUP is below nohup,
    stays ignored.
    """

    def __init__(self) -> None:
        self.received = 0
        """The signal that asks to stop; 0 if none does."""
        self.before_exit: Callable[[], None] = lambda: None
        """What is to be done before a process ends that cannot raise `Stopped`."""
        self._patient = False
        self._previous: dict[signal.Signals, Any] = {}
        self._writer: socket.socket | None = None

    def __enter__(self) -> Signals:
        signums = list(ASK_TO_STOP)
        if callable(signal.getsignal(signal.SIGUSR2)):
            signums.append(signal.SIGUSR2)
        if threading.current_thread() is threading.main_thread():  # elsewhere Python lets nobody listen
            previous = {signum: signal.getsignal(signum) for signum in signums}
            self._previous = {key: handler for key, handler in previous.items() if handler != signal.SIG_IGN}
            self._listen()
        self.catch(patient=False)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        for signum, handler in self._previous.items():
            # None: it was not installed from Python, and cannot be put back.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        if self._writer is not None:
            _stop_listening()
            self._writer.close()
        waiting: Callable[[int, None], Any] | None = self._previous.get(signal.SIGUSR2)
        if isinstance(error, Stopped) and error.signum == signal.SIGUSR2 and waiting is not None:
            waiting(signal.SIGUSR2, None)

    def catch(self, *, patient: bool) -> None:
        """Put the handlers in place, over whatever is there.

        Args:
            patient: whether the first signal is only noted, in `received`.
        """
        self._patient = patient
        for signum in self._previous:
            signal.signal(signum, self._handle)

    def _listen(self) -> None:
        """Have the system write the numbers of signals to a socket as they come, for a thread that waits for them."""
        previous = signal.set_wakeup_fd(-1)
        if previous != -1:  # an event loop has it, which answers signals itself
            signal.set_wakeup_fd(previous)
            return
        global _listening
        _listening = True
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._answer, args=(reader,), daemon=True).start()

    def _answer(self, reader: socket.socket) -> None:
        """End the process where the main thread does not answer a signal."""
        with reader:
            while number := reader.recv(1):
                signum = number[0]
                if signum not in self._previous or signum not in FORCED or self._patient:
                    continue
                for _ in range(ANSWER_LOOKS):
                    if self.received:
                        break
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                if self.received:
                    continue
                if (
                    self._patient
                ):  # training has begun, and Lightning's handler, in the place of ours, kept it to itself
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
        at_once = bool(self.received) or not self._patient
        self.received = signum
        if at_once:
            raise Stopped(signum)


def _stop_listening() -> None:
    global _listening
    if _listening:
        signal.set_wakeup_fd(-1)
        _listening = False


# What a process receives that was forked is nothing to the one that it was forked from, whose socket it shares.
os.register_at_fork(after_in_child=_stop_listening)


def leave_terminal() -> None:
    """Send to nowhere what would be shown on a terminal that is gone: to write there is an error."""
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError):  # a stream that was never open
        for stream in (1, 2):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                os.dup2(nowhere.fileno(), stream)


def requeue(job: str) -> None:
    """Ask Slurm to start a job again: it will go on in the directory that it has.

    Raises:
        NelboError: if Slurm refuses; the checkpoint is there all the same.
    """
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        raise NelboError(f"scontrol requeue {job}: {error.strerror}; the checkpoint is written") from error
    if done.returncode:
        raise NelboError(f"scontrol requeue {job}: exit status {done.returncode}: {done.stderr.strip()}")
    log.info("asked Slurm to start job %s again", job)
