"""The directory of a run: which it is, who may write to it, and how it is made ready."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nelbo.errors import CheckpointError, NelboError
from nelbo.files import reserve, sweep_partial, write_text
from nelbo.identity import FREE_TO_CHANGE, identity
from nelbo.rewind import Lengths, own_folders, rewind

log = logging.getLogger(__name__)

CONFIG, OVERRIDES, METRICS, CHECKPOINTS = "config.yaml", "overrides.yaml", "metrics.json", "checkpoints"
MARK = ".run"
"""Says which run a directory is of: its identity and, in a Slurm job, the job."""

RESULTS = (METRICS, "evaluation.json", "evaluation.npz")
AUTO = "auto"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The directory for one process; the system lets go of it when its owner dies, however it dies.

    Raises:
        NelboError: if another process has it.
        OSError: if it cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        mend = "another process is training in it; wait for that, or give another directory"
        raise NelboError(f"hydra.run.dir={folder}: {mend}") from error
    try:
        yield
    finally:
        lock.release()


def unwritable(folder: Path, error: OSError) -> NelboError:
    """What to say of a directory that takes no files."""
    return NelboError(
        f"hydra.run.dir={folder}: cannot be written ({error.strerror}); {how_to_write(error)}: hydra.run.dir=..."
    )


def how_to_write(error: OSError) -> str:
    """What to do about a place that takes no files."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "it is a file, or below one; give a directory"
    room = "make room, or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return f"{room}give a directory that can be written"


def finished(folder: Path, plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """metrics.json, if the run that `plain` describes has ended in this directory."""
    try:
        metrics = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) and metrics.get("identity") == identity(plain) else None


def begin(folder: Path, logs: Lengths, checkpoint_bytes: int, texts: Mapping[str, str]) -> None:
    """Make the directory what it was at a checkpoint, or empty of an earlier try; its owner calls it.

    Args:
        folder: it.
        logs: how long the run's logs were then.
        checkpoint_bytes: how large checkpoints will be.
        texts: files to write, by name.

    Raises:
        OSError: if it cannot be written, or the disk has no room for checkpoints of that size.
    """
    for place in own_folders(folder):
        for orphan in sweep_partial(place):
            log.info("removed %s, which a killed process left half written", orphan)
    reserve(folder / CHECKPOINTS, checkpoint_bytes)
    rewind(folder, logs)
    for earlier in RESULTS:
        (folder / earlier).unlink(missing_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)


def mark(plain: Mapping[str, Any]) -> str:
    """Which run a config describes, for however many epochs, and, in a Slurm job, which job runs it."""
    return f"{identity(plain, FREE_TO_CHANGE)} {slurm_job()}"


def slurm_job() -> str:
    """The Slurm job that this is, as scontrol names it; empty outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def is_requeued() -> bool:
    """Whether Slurm has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def run_directory(outputs: Path, resume: str | None, fresh: str, plain: Callable[[], Mapping[str, Any]]) -> Path:
    """Where a run goes: `fresh` below `outputs`, unless it goes on with one that is there.

    With `resume=auto` that is the newest run of the same config, for however many epochs; a job that Slurm has requeued
    finds its own.
    """
    if resume not in (None, AUTO):
        if not isinstance(resume, str) or not (Path(resume) / CHECKPOINTS).is_dir():
            raise CheckpointError(f"resume={resume}: is not a run's directory; {_run_meant(resume)}")
        return Path(resume)
    if resume == AUTO or is_requeued():
        wanted = mark(plain())
        files = [*outputs.glob(f"*/{MARK}"), *outputs.glob(f"*/*/{MARK}")]
        marks = {file: file.read_text() for file in files}
        own = [file for file, found in marks.items() if found == wanted and is_requeued()]
        alike = [file for file, found in marks.items() if found.split(" ")[0] == wanted.split(" ")[0]]
        if places := own or (alike if resume == AUTO else []):
            return max(places, key=lambda file: file.stat().st_mtime).parent
    return outputs / fresh


def _run_meant(resume: object) -> str:
    """What to type for a path that is no run's directory."""
    if isinstance(resume, str):
        for parent in (Path(resume), *Path(resume).parents):
            if parent.name == CHECKPOINTS and parent.is_dir():
                return f"did you mean {shlex.quote(f'resume={quoted(str(parent.parent))}')}?"
    return "give one, or resume=auto"


def quoted(value: str) -> str:
    """A text as Hydra's grammar and OmegaConf take it: as it stands where that reads as text and means nothing else."""
    if re.fullmatch(r"[A-Za-z_./][\w./+-]*", value, re.ASCII) and not is_number_or_word(value):
        return value
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # OmegaConf would interpolate
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)  # at the end they would escape the quote
    return f"'{text}'"


def is_number_or_word(text: str) -> bool:
    """Whether Hydra's grammar reads a text without quotes as a number, true, false or null."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True
