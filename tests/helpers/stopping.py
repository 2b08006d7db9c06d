"""train.py with a fault: `python -m tests.helpers.stopping PLACE:NUMBER:SIGNAL OVERRIDE...`.

The process sends itself the signal. PLACE is `train`, `validation` or `test` (in the NUMBERth step of that kind,
counted from 1 in this process), `save` (in the NUMBERth write of a checkpoint, with half of it written) or `nowhere`.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

from nelbo.training import VAEModule


def fail(place: str, number: int, signum: signal.Signals) -> None:
    """Patch the function of `place` so that its `number`th call sends the signal."""
    calls = 0

    def failing(original: Callable[..., Any], halfway: bool = False) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if halfway and calls == number:
                arguments[1].write(b"half of it")
                arguments[1].flush()
            if calls == number:
                os.kill(os.getpid(), signum)
            return original(*arguments, **options)

        return call

    if place == "save":
        torch.save = failing(torch.save, halfway=True)
    elif place == "train":
        VAEModule.training_step = failing(VAEModule.training_step)  # type: ignore[method-assign]
    elif place == "test":
        VAEModule.test_step = failing(VAEModule.test_step)  # type: ignore[method-assign]
    else:
        assert place == "validation", place
        VAEModule.validation_step = failing(VAEModule.validation_step)  # type: ignore[method-assign]


if __name__ == "__main__":
    location, count, name = sys.argv[1].split(":")
    if location != "nowhere":
        fail(location, int(count), signal.Signals[name])
    sys.argv = ["train.py", *sys.argv[2:]]
    runpy.run_path("train.py", run_name="__main__")
