"""The directory of a run: who may write to it, and what a run that stands there goes on from."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from nelbo.errors import CheckpointError, ConfigError, NelboError, first_line
from nelbo.files import DISK_ERRORS, reserve, sweep_partial, write_text
from nelbo.identity import MACHINE_FACTS, identity
from nelbo.loading import read_checkpoint
from nelbo.rewind import Lengths, rewind

log = logging.getLogger(__name__)

CONFIG, OVERRIDES, METRICS, CHECKPOINTS = "config.yaml", "overrides.yaml", "metrics.json", "checkpoints"
MARK = ".run"
"""Says which run a directory is of: its identity and, in a Slurm job, the job."""

RESULTS = (METRICS, "evaluation.json", "evaluation.npz")
AUTO = "auto"

FREE_TO_CHANGE = (*MACHINE_FACTS, "budget", "trainer.max_epochs")
"""What may differ when a run goes on. What the budget says stands elsewhere too, where it is compared."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that a run can go on from.

    Args:
        file: it.
        step: optimiser steps done.
        epochs: that are over.
        batches: of the next epoch that are over.
        provenance: of the data that it was trained on.
        logs: how long the run's logs were.
    """

    file: Path
    step: int
    epochs: int
    batches: int
    provenance: Mapping[str, Any]
    logs: Lengths


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The directory for one process; the system lets go of it when its owner dies, however it dies.

    Raises:
        NelboError: if another process has it, or it cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        mend = "another process is training in it; wait for that, or give another directory"
        raise NelboError(f"hydra.run.dir={folder}: {mend}") from error
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(folder: Path, error: OSError) -> NelboError:
    """What to say of a directory that takes no files."""
    mend = "make room, or give a directory that can be written: hydra.run.dir=..."
    return NelboError(f"hydra.run.dir={folder}: cannot be written ({error.strerror}); {mend}")


def finished(folder: Path, plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """metrics.json, if the run that `plain` describes has ended in this directory."""
    try:
        metrics = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) and metrics.get("identity") == identity(plain) else None


def find(folder: Path, plain: Mapping[str, Any], resume: str | None) -> Found | None:
    """The checkpoint to go on from; None for a run that starts afresh.

    Args:
        folder: the run's directory.
        plain: its config.
        resume: `auto`, a directory, or None for a run that expects nothing there.

    Raises:
        ConfigError: if there is a run and nobody asked to go on with it, or its config was another.
        CheckpointError: if there is none to go on with, or none of its checkpoints can be read.
    """
    files = sorted((folder / CHECKPOINTS).glob("*.ckpt"))
    if not files:
        if resume not in (None, AUTO):
            raise CheckpointError(f"resume={resume}: holds no checkpoint to go on from; give a run's directory")
        if resume == AUTO:
            log.info("resume=auto: no checkpoint in %s yet, so this run starts afresh", folder)
        return None
    if resume is None:
        mend = "holds a run with checkpoints; resume=auto goes on with it, or give another directory"
        raise ConfigError("hydra.run.dir", folder, mend)
    refuse_differences(folder, plain)
    found = newest(files)
    if found.epochs > plain["trainer"]["max_epochs"]:
        mend = f"{folder} has trained {found.epochs} epochs already"
        raise ConfigError("trainer.max_epochs", plain["trainer"]["max_epochs"], mend)
    log.info("going on from %s: step %d, %d epochs are over", found.file, found.step, found.epochs)
    return found


def newest(files: Sequence[Path]) -> Found:
    """The checkpoint with the most steps among those that are whole; what is passed over is said.

    Steps and not file times: a clock may have been set back.

    Raises:
        CheckpointError: if none is.
    """
    whole, damaged = [], []
    for file in files:
        try:
            checkpoint = read_checkpoint(file)
            if "random_states" not in checkpoint:
                raise CheckpointError(f"{file}: was written before runs could go on; nelbo.load still reads it")
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        whole.append(found_in(file, checkpoint))
    if not whole:
        raise CheckpointError(f"{'; '.join(damaged)}; delete them to start afresh")
    found = max(whole, key=lambda found: (found.step, found.file.name == "last.ckpt"))
    for told in damaged:
        log.warning("passed over, for %s (step %d): %s", found.file.name, found.step, told)
    return found


def found_in(file: Path, checkpoint: Mapping[str, Any]) -> Found:
    """Where the run stood when a checkpoint was written, as Lightning's loops say it."""
    loops = checkpoint["loops"]["fit_loop"]
    epoch, batch = loops["epoch_progress"]["current"], loops["epoch_loop.batch_progress"]["current"]
    batches = batch["ready"] if epoch["ready"] > epoch["processed"] else 0
    provenance, logs = checkpoint["nelbo"]["provenance"], checkpoint["logs"]
    return Found(file, checkpoint["global_step"], epoch["processed"], batches, provenance, logs)


def refuse_differences(folder: Path, plain: Mapping[str, Any]) -> None:
    """A run goes on as it began, but for what `resume_changes` names.

    Raises:
        ConfigError: listing what differs.
    """
    try:
        before = yaml.safe_load((folder / CONFIG).read_text())
    except (OSError, yaml.YAMLError) as error:
        raise CheckpointError(f"{folder / CONFIG}: cannot be read ({first_line(error)})") from error
    allowed = (*FREE_TO_CHANGE, *plain["resume_changes"])
    differ = {
        key: (was, now)
        for key, (was, now) in differences(before, plain).items()
        if not any(key == free or key.startswith(f"{free}.") for free in allowed)
    }
    if plain["data"]["shape"] is None:  # the run filled it in
        differ.pop("data.shape", None)
    if differ:
        told = ", ".join(f"{key} {was} -> {now}" for key, (was, now) in differ.items())
        mend = f"the run there began otherwise: {told}; allow it with 'resume_changes=[{','.join(differ)}]'"
        raise ConfigError("resume", plain["resume"] or AUTO, mend)


def differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """What two plain configs say differently, by dotted key; None where one of them says nothing."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in dict.fromkeys([*before, *after]):
            found |= differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return found
    return {} if before == after else {path: (before, after)}


def begin(folder: Path, found: Found | None, checkpoint_bytes: int, texts: Mapping[str, str]) -> None:
    """Make the directory what it was at the checkpoint, or empty of an earlier run; its owner calls it.

    Args:
        folder: it.
        found: the checkpoint.
        checkpoint_bytes: how large checkpoints will be.
        texts: files to write, by name.

    Raises:
        NelboError: if the disk has no room for checkpoints of that size.
    """
    try:
        for orphan in sweep_partial(folder):
            log.info("removed %s, which a killed process left half written", orphan)
        reserve(folder / CHECKPOINTS, checkpoint_bytes)
        rewind(folder, found.logs if found else {})
        for earlier in RESULTS:
            (folder / earlier).unlink(missing_ok=True)
        for name, text in texts.items():
            write_text(folder / name, text)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise unwritable(folder, error) from error


def mark(plain: Mapping[str, Any]) -> str:
    """Which run a config describes and, in a Slurm job, which job runs it."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{identity(plain)} {f'{job}_{task}' if job else os.environ.get('SLURM_JOB_ID', '')}"


def is_requeued() -> bool:
    """Whether Slurm has started this job before."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def run_directory(outputs: Path, resume: str | None, fresh: str, plain: Callable[[], Mapping[str, Any]]) -> Path:
    """Where a run goes: `fresh` below `outputs`, unless it goes on with one that is there.

    With `resume=auto` that is the newest run of the same config; a job that Slurm has requeued finds its own.
    """
    if resume not in (None, AUTO):
        if not isinstance(resume, str) or not Path(resume).is_dir():
            raise CheckpointError(f"resume={resume}: is not a run's directory; give one, or resume=auto")
        return Path(resume)
    if resume == AUTO or is_requeued():
        wanted = mark(plain())
        marks = {file: file.read_text() for file in outputs.glob(f"*/*/{MARK}")}
        own = [file for file, found in marks.items() if found == wanted and is_requeued()]
        alike = [file for file, found in marks.items() if found.split(" ")[0] == wanted.split(" ")[0]]
        if places := own or (alike if resume == AUTO else []):
            return max(places, key=lambda file: file.stat().st_mtime).parent
    return outputs / fresh
