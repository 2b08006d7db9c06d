"""Running of scripts in forks of a process that has imported everything, which saves the time of the imports.

That process is `python -m tests.helpers.forks`. It reads a line of JSON for each run and answers with the exit status.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
TIMEOUT = 600


@dataclass(frozen=True)
class Done:
    """The output and the exit status of a run."""

    returncode: int
    stdout: str
    stderr: str


Train = Callable[..., Done]
"""Type of the fixture `train`, which takes overrides, and environment variables as keyword arguments."""


def python(*arguments: str, timeout: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the repository in a new interpreter; `forked` is seconds faster."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@functools.cache
def parent() -> subprocess.Popen[str]:
    """Return the process that forks; it ends when its pipe is closed, and so with this process."""
    command = [sys.executable, "-m", "tests.helpers.forks"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)
    return process


def forked(script: str, *arguments: str, **environment: str) -> Done:
    """Run a script as `python` does, in a fork.

    Tests in which a variable is read at import, or the command line is inspected from outside, need `python`.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _ask(script, arguments, {**os.environ, **environment}, Path(folder, "run"))


def train_all(runs: Mapping[str, list[str]], folder: Path, script: str = "train.py") -> dict[str, Done]:
    """Run a script once for each entry, one after another; `folder` gets the output as NAME.out and NAME.err."""
    return {name: _ask(script, arguments, dict(os.environ), folder / name) for name, arguments in runs.items()}


def _ask(script: str, arguments: Sequence[str], environment: dict[str, str], to: Path) -> Done:
    server = parent()
    assert server.stdin is not None and server.stdout is not None
    json.dump({"script": script, "arguments": arguments, "environment": environment, "to": str(to)}, server.stdin)
    print(file=server.stdin, flush=True)
    status = int(server.stdout.readline())
    return Done(status, *(Path(f"{to}.{name}").read_text() for name in ("out", "err")))


def become(script: str, arguments: list[str], environment: dict[str, str], to: str) -> int:
    """Turn this process into a run of a script, as a shell would start it with its output redirected to files.

    Returns:
        The exit status.
    """
    signal.alarm(TIMEOUT)
    for stream, file in enumerate((os.devnull, f"{to}.out", f"{to}.err")):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # cached from $TMPDIR if an import asked for it
    sys.argv = [script, *arguments]
    file = os.path.abspath(script)
    sys.path[0] = os.path.dirname(file)
    sys.modules["__main__"] = module = ModuleType("__main__")
    module.__file__ = file  # absolute, while argv and the code's file name are as given; runpy cannot do both
    try:
        exec(compile(Path(script).read_text(), script, "exec"), module.__dict__)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Fork a run for each line of stdin."""
    import sklearn.datasets  # noqa: F401 # used by data=digits
    from hydra import compose, initialize_config_dir

    import nelbo.commands.draw
    import nelbo.commands.evaluate
    import nelbo.commands.train
    import nelbo.finished.draw
    import nelbo.finished.evaluate
    import nelbo.objectives
    import nelbo.running.resume
    import nelbo.running.run
    import nelbo.sweeps.callback
    import nelbo.sweeps.own_targets
    import nelbo.training.callbacks  # noqa: F401
    from nelbo.commands.resolvers import register_resolvers
    from nelbo.composing.compat import hydra_options

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning that is shown once is not to be used up here
        register_resolvers()
        with initialize_config_dir(str(ROOT / "conf"), **hydra_options()):  # plugins are found and grammars warmed up
            compose("config", overrides=["model=mlp_vae", "data=digits"], return_hydra_config=True)
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = become(**json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
