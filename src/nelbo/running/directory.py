"""The directory of a run: which it is, who may write to it, and how it is made ready."""

from __future__ import annotations

import contextlib
import errno
import glob
import itertools
import json
import logging
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from nelbo.config.identity import FREE_TO_CHANGE, identity
from nelbo.config.quoting import quoted
from nelbo.directories.logs import (
    LIST,
    Lengths,
    by_name,
    event_patterns,
    logs,
    rewind,
    unnamed_events,
    write_list,
)
from nelbo.directories.names import (
    AUTO,
    CHECKPOINTS,
    EVALUATION,
    EVALUATION_ARRAYS,
    EVALUATION_LOCK,
    HALF_WRITTEN,
    MARK,
    METRICS,
)
from nelbo.directories.owner import DirectoryInUse, Ownership
from nelbo.errors import CheckpointError, ConfigError, NelboError
from nelbo.files import reserve, sweep_partial, write_text

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The directory for one process, until that ends or dies, however it dies.

    Raises:
        NelboError: if another process has it.
        OSError: if it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(Ownership(folder, ""))
        except DirectoryInUse as error:
            hint = f"wait for that, or give another directory ({error.owner})"
            raise NelboError(f"hydra.run.dir={folder}: another process is training in it; {hint}") from error
        yield


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
    if not isinstance(metrics, dict):
        return None
    origin = {"init_from": metrics["init_from"]} if "init_from" in metrics else {}  # of then, whatever lies there now
    return metrics if metrics.get("identity") == identity({**plain, **origin}) else None


def begin(
    folder: Path,
    were: Lengths,
    checkpoint_bytes: int,
    texts: Mapping[str, str],
    tables: Sequence[str] = (),
    boards: Sequence[str] = (),
) -> None:
    """Make the directory what it was at a checkpoint, or empty of an earlier try; its owner calls it.

    Args:
        folder: it.
        were: how long the run's logs were then.
        checkpoint_bytes: how large checkpoints will be.
        texts: files to write, by name.
        tables: names of the tables that the run will write.
        boards: names of the folders that TensorBoard's writers of the run will write to.

    Raises:
        ConfigError: if a log of somebody else stands where one of the run would; nothing is changed then.
        OSError: if it cannot be written, or the disk has no room for checkpoints of that size.
    """
    ours = (folder / MARK).exists() or any((folder / CHECKPOINTS).glob("*.ckpt"))
    unlisted = ours and not (folder / LIST).exists()  # as earlier versions left it
    own = list(tables) if unlisted else []
    known = logs(folder) | {folder / name for name in (*by_name(folder, were), *own)}
    refuse_files(folder, [name for name in tables if folder / name not in known])
    if not ours:
        refuse_files(folder, [board for board in boards if folder / board != folder])
    for place, names in _half_written(folder, known):
        for orphan in sweep_partial(place, names):
            log.info("removed %s, which a killed process left half written", orphan)
    reserve(folder / CHECKPOINTS, checkpoint_bytes)
    write_text(folder / MARK, texts[MARK])  # the first: from here on it is ours
    there = rewind(folder, were, own)
    for left in unnamed_events(folder, boards, there) if unlisted else ():
        log.warning("%s: left as it is, for the checkpoint does not name it; curves may overlap", left)
    write_list(folder, [*there, *tables], event_patterns(boards))
    with FileLock(folder / EVALUATION_LOCK) if (folder / EVALUATION).exists() else contextlib.nullcontext():
        if aside := set_aside(folder):
            log.info("the evaluation of the run as it was is %s now", aside)
    (folder / METRICS).unlink(missing_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)


def refuse_files(folder: Path, names: Iterable[str], key: str = "hydra.run.dir") -> None:
    """What would be written is not there yet: no file, and no folder with anything in it; `key` gave the directory.

    Raises:
        ConfigError: naming the first that is.
    """
    for name in names:
        place = folder / name
        if place.is_symlink() or (any(place.iterdir()) if place.is_dir() else place.exists()):
            raise ConfigError(key, folder, f"holds {name} already; give another directory")


def set_aside(folder: Path) -> Path | None:
    """Rename evaluation.json and .npz to evaluation-1.json, -2, ...: the first that is free; its holder has the lock.

    Returns:
        The new name, if there was one.
    """
    found = [folder / name for name in (EVALUATION_ARRAYS, EVALUATION) if (folder / name).exists()]
    if not found:
        return None
    number = next(n for n in itertools.count(1) if not any(folder.glob(f"evaluation-{n}.*")))
    places = [file.rename(folder / f"evaluation-{number}{file.suffix}") for file in found]
    return places[-1]


def _half_written(folder: Path, known: Iterable[Path]) -> Iterator[tuple[Path, Iterable[str]]]:
    """Folders of a run, and the names in them of which killed processes may have left a part."""
    yield from ((folder / place, names) for place, names in HALF_WRITTEN.items())
    yield from ((file.parent, (glob.escape(file.name),)) for file in known)


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
