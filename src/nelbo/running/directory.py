"""The directory of a run: which one it is, the lock on it, and its preparation for a run that starts or resumes."""

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
    """A context in which no other process can train in a directory; the lock ends with the process, even if killed.

    Args:
        folder: the directory, which is made if it is missing.

    Raises:
        NelboError: if another process has the lock.
        OSError: if the directory cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(Ownership(folder, ""))
        except DirectoryInUse as error:
            hint = f"wait for it to end, or give another directory ({error.owner})"
            raise NelboError(f"hydra.run.dir={folder}: another process is training in it; {hint}") from error
        yield


def unwritable(folder: Path, error: OSError) -> NelboError:
    """Return the error for a run's directory that cannot be written."""
    fact = f"cannot be written ({error.strerror})"
    return NelboError(f"hydra.run.dir={folder}: {fact}; {how_to_write(error)}: hydra.run.dir=...")


def how_to_write(error: OSError) -> str:
    """Return the hint for a directory that cannot be written."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "it is a file, or below one; give a directory"
    space = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return f"{space}give a directory that can be written"


def finished(folder: Path, plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the content of metrics.json if the run of a config has ended in a directory; else None.

    Args:
        folder: the run's directory.
        plain: the run's config.
    """
    try:
        metrics = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(metrics, dict):
        return None
    # The weights that the run recorded; other ones may be at that path by now.
    origin = {"init_from": metrics["init_from"]} if "init_from" in metrics else {}
    return metrics if metrics.get("identity") == identity({**plain, **origin}) else None


def begin(
    folder: Path,
    lengths: Lengths,
    checkpoint_bytes: int,
    texts: Mapping[str, str],
    tables: Sequence[str] = (),
    boards: Sequence[str] = (),
) -> None:
    """Return a directory to its state at a checkpoint, or remove the files of an earlier attempt from it.

    Only the process that holds the lock may call this.

    Args:
        folder: the run's directory.
        lengths: the lengths of the run's logs at the checkpoint; empty for a run that starts.
        checkpoint_bytes: the size of a checkpoint.
        texts: the contents of files to write, by name.
        tables: names of the tables that the run will write.
        boards: names of the folders of the run's TensorBoard loggers.

    Raises:
        ConfigError: if a file of another program has the name of one of the run's logs; nothing is changed then.
        OSError: if the directory cannot be written, or the disk has no space for checkpoints.
    """
    ours = (folder / MARK).exists() or any((folder / CHECKPOINTS).glob("*.ckpt"))
    is_unlisted = ours and not (folder / LIST).exists()  # a run of an earlier version
    own = list(tables) if is_unlisted else []
    known = logs(folder) | {folder / name for name in (*by_name(folder, lengths), *own)}
    refuse_files(folder, [name for name in tables if folder / name not in known])
    if not ours:
        refuse_files(folder, [board for board in boards if folder / board != folder])
    for place, names in _partial_files(folder, known):
        for partial in sweep_partial(place, names):
            log.info("removed %s, which a killed process left incomplete", partial)
    reserve(folder / CHECKPOINTS, checkpoint_bytes)
    write_text(folder / MARK, texts[MARK])  # first: it marks the directory as a run's
    kept = rewind(folder, lengths, own)
    for events in unnamed_events(folder, boards, kept) if is_unlisted else ():
        log.warning("%s: left unchanged, because the checkpoint does not name it; curves may overlap", events)
    write_list(folder, [*kept, *tables], event_patterns(boards))
    with FileLock(folder / EVALUATION_LOCK) if (folder / EVALUATION).exists() else contextlib.nullcontext():
        if renamed := set_aside(folder):
            log.info("the run's previous evaluation is now %s", renamed)
    (folder / METRICS).unlink(missing_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)


def refuse_files(folder: Path, names: Iterable[str], key: str = "hydra.run.dir") -> None:
    """Refuse a directory that already contains one of some files, or a folder with content of that name.

    Args:
        folder: the directory.
        names: the names of the files.
        key: the config key that names the directory.

    Raises:
        ConfigError: for the first that exists.
    """
    for name in names:
        place = folder / name
        if place.is_symlink() or (any(place.iterdir()) if place.is_dir() else place.exists()):
            raise ConfigError(key, folder, f"holds {name} already; give another directory")


def set_aside(folder: Path) -> Path | None:
    """Rename evaluation.json and evaluation.npz to evaluation-N, with the first free number.

    Only the process that holds the lock of the evaluation may call this.

    Returns:
        The new path; None if there was no evaluation.
    """
    files = [folder / name for name in (EVALUATION_ARRAYS, EVALUATION) if (folder / name).exists()]
    if not files:
        return None
    number = next(n for n in itertools.count(1) if not any(folder.glob(f"evaluation-{n}.*")))
    renamed = [file.rename(folder / f"evaluation-{number}{file.suffix}") for file in files]
    return renamed[-1]


def _partial_files(folder: Path, known: Iterable[Path]) -> Iterator[tuple[Path, Iterable[str]]]:
    """Yield the folders of a run with the names of files in them that a killed process may have left incomplete."""
    yield from ((folder / place, names) for place, names in HALF_WRITTEN.items())
    yield from ((file.parent, (glob.escape(file.name),)) for file in known)


def mark(plain: Mapping[str, Any]) -> str:
    """Return the text that marks the directory of a run: the identity of its config, except its length, and its job.

    Args:
        plain: the run's config.
    """
    return f"{identity(plain, FREE_TO_CHANGE)} {slurm_job()}"


def slurm_job() -> str:
    """Return the current Slurm job as scontrol names it; empty outside Slurm."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def is_requeued() -> bool:
    """Return whether Slurm has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def run_directory(outputs: Path, resume: str | None, fresh: str, plain: Callable[[], Mapping[str, Any]]) -> Path:
    """Return the directory of a run: a new one, or that of the run that it resumes.

    Args:
        outputs: the folder of all runs.
        resume: the config's `resume`: None, `auto` for the newest run of the same config whatever its length, or the
            directory of a run. A job that Slurm starts again resumes its own run in any case.
        fresh: the name of a new directory below `outputs`.
        plain: returns the run's config; called only if it is needed.

    Raises:
        CheckpointError: if `resume` is not the directory of a run.
    """
    if resume not in (None, AUTO):
        if not isinstance(resume, str) or not (Path(resume) / CHECKPOINTS).is_dir():
            raise CheckpointError(f"resume={resume}: is not a run's directory; {_hint_for_run(resume)}")
        return Path(resume)
    if resume == AUTO or is_requeued():
        wanted = mark(plain())
        files = [*outputs.glob(f"*/{MARK}"), *outputs.glob(f"*/*/{MARK}")]
        marks = {file: file.read_text() for file in files}
        own = [file for file, text in marks.items() if text == wanted and is_requeued()]
        same_config = [file for file, text in marks.items() if text.split(" ")[0] == wanted.split(" ")[0]]
        if candidates := own or (same_config if resume == AUTO else []):
            return max(candidates, key=lambda file: file.stat().st_mtime).parent
    return outputs / fresh


def _hint_for_run(resume: object) -> str:
    """Return the hint for a value of `resume` that is not the directory of a run."""
    if isinstance(resume, str):
        for parent in (Path(resume), *Path(resume).parents):
            if parent.name == CHECKPOINTS and parent.is_dir():
                return f"did you mean {shlex.quote(f'resume={quoted(str(parent.parent))}')}?"
    return "give one, or resume=auto"
