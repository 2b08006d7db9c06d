"""Checkpoints and run directories back to models: no Hydra, no Trainer, no data, no pickled classes."""

from __future__ import annotations

import math
import os
import re
import textwrap
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from nelbo.build import IN_CONFIGS, IN_PYTHON, MODEL_PREFIXES, RefusedTarget, build, user_prefixes
from nelbo.errors import CheckpointError, ConfigError, DamagedCheckpoint, first_line
from nelbo.models import VAE

RECORD = "nelbo"
"""The checkpoint's key for what a model needs to be built again, in plain containers."""

FORMAT = 2
"""Of new checkpoints. 2 has, beside what 1 had, what is needed to resume exactly."""

FORMATS = (1, 2)
"""Those that load."""

PLAIN = (str, int, float, bool, bytes, type(None), torch.dtype, torch.device)
LONGEST = 300  # characters of what is wrong with a stranger's file


def load(path: str | Path, *, allow: Sequence[str] = ()) -> VAE:
    """The model of a run directory (its best.ckpt) or of a checkpoint, in eval mode, on the CPU.

    Args:
        path: a run directory, or a checkpoint in it.
        allow: packages of your own whose classes the model is made of, such as `("mypackage.",)`. A checkpoint can then
            import and call anything in them, with arguments of its choice: name only what you would let a stranger run.

    Raises:
        CheckpointError: if there is none, or it was not written by nelbo, or it is damaged.
        ConfigError: if `allow` is not a list of packages.
    """
    file = checkpoint_file(path)
    return build_model(read_checkpoint(file), file, allow, how=IN_PYTHON)


def build_model(checkpoint: Mapping[str, Any], file: Path, allow: Sequence[str] = (), *, how: str = IN_CONFIGS) -> VAE:
    """The model of a checkpoint that was read from `file`, in eval mode, on the CPU.

    Args:
        checkpoint: its content.
        file: where it lies.
        allow: packages that it may be made of beside our own.
        how: the caller's way to say `allow`, for the message that refuses another package.

    Raises:
        CheckpointError: if it cannot be built.
    """
    allowed = (*MODEL_PREFIXES, *user_prefixes("allow", allow))
    try:
        model = build(checkpoint[RECORD].get("model"), "model", allowed)
    except RefusedTarget as error:
        refused = RefusedTarget(error.key, error.name, how)
        raise CheckpointError(f"{file}: its model cannot be built: {_short(refused)}") from error
    except ConfigError as error:
        raise CheckpointError(f"{file}: its model cannot be built: {_short(error)}") from error
    except Exception as error:  # whatever a stranger's numbers mean to torch
        raise CheckpointError(f"{file}: its model cannot be built: {type(error).__name__}: {_short(error)}") from error
    if not isinstance(model, VAE):
        raise CheckpointError(f"{file}: what it holds is not a model but a {type(model).__name__}")
    prefix = "model."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{file}: its tensors do not fit its model: {first_line(error)}") from error
    model.checks_pixels = True
    model.advance(math.inf)  # a schedule that training did not finish: its figures are for the final values too
    return model.eval()


def provenance(path: str | Path) -> dict[str, Any]:
    """The data, protocol, split and checksum that a run directory's or checkpoint's model was trained on.

    Raises:
        CheckpointError: if there is none, or it was not written by nelbo, or does not say.
    """
    file = checkpoint_file(path)
    found = read_checkpoint(file)[RECORD].get("provenance")
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: does not say what data it was trained on; train it again")
    return found


def checkpoint_file(path: str | Path, key: str = "") -> Path:
    """The file that `path` means: itself, or a run directory's checkpoints/best.ckpt.

    Args:
        path: it.
        key: behind which it was typed, if it was: an error names both.

    Raises:
        CheckpointError: if there is no such file.
    """
    file = _local(path)
    typed = f"{key}={path}" if key else str(path) or repr("")
    try:
        if file.is_dir():
            file = (file.parent if file.name == "checkpoints" else file) / "checkpoints" / "best.ckpt"
        if not str(path) or not file.is_file():
            where = f"{typed}: " if key and str(path) not in ("", str(file)) else ""
            named = file if where or (str(path) and not key) else typed
            raise CheckpointError(f"{where}{named}: no such checkpoint; give a run directory or a .ckpt file")
    except OSError as error:  # too long a name, or a directory that one may not look into
        raise CheckpointError(f"{typed if key else file}: no such checkpoint: {error.strerror}") from error
    return file


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint: the one way in which any is read.

    Raises:
        CheckpointError: as `read_plain` does, or if it was not written by nelbo, or by a later version.
    """
    checkpoint = read_plain(path)
    if type(checkpoint) is not dict or type(checkpoint.get(RECORD)) is not dict or "state_dict" not in checkpoint:
        raise DamagedCheckpoint(f"{path}: not written by nelbo (it holds no {RECORD!r} record)")
    record, state = checkpoint[RECORD], checkpoint["state_dict"]
    if type(found := record.get("format")) is not int or found not in FORMATS:
        readable = " and ".join(map(str, FORMATS))
        raise CheckpointError(
            f"{path}: has format {_short(found)}, this nelbo reads {readable}; a later one may read it"
        )
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise DamagedCheckpoint(f"{path}: its state_dict is not names and tensors")
    return checkpoint


def read_plain(path: str | Path) -> Any:
    """What `torch.save` wrote, on the CPU: plain containers and tensors, never an object of another class.

    Raises:
        CheckpointError: if it is not a local file, cannot be read, is damaged, or holds anything else.
    """
    file = _local(path)
    try:
        with file.open("rb") as stream:  # once: what was checked is what is read
            _check_archive(stream)
            stream.seek(0)
            # True, said here: without it TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD decides.
            content = torch.load(stream, map_location="cpu", weights_only=True, mmap=False)
    except (OSError, MemoryError) as error:  # no word on the file itself
        reason = getattr(error, "strerror", None) or "it does not fit in memory"
        raise CheckpointError(f"{file}: cannot be read: {reason}") from error
    except Exception as error:  # whatever the bytes of a stranger's file happen to mean to an unpickler
        raise DamagedCheckpoint(f"{file}: not a readable checkpoint: {_short(first_line(error))}") from error
    check_plain(content, file)
    return content


def check_plain(content: object, file: Path) -> None:
    """What passes reads back as it was written; `weights_only` alone lets through more than plain data.

    Raises:
        CheckpointError: for anything but dicts, lists, tuples, scalars and dense tensors.
    """
    left, seen = [content], set[int]()
    while left:
        value = left.pop()
        kind = type(value)
        if id(value) in seen or kind in PLAIN:
            continue
        seen.add(id(value))  # a container may hold itself
        if isinstance(value, dict) and kind in (dict, OrderedDict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple) and kind in (list, tuple, torch.Size):
            left += value
        elif not (isinstance(value, Tensor) and kind in (Tensor, nn.Parameter) and _is_dense(value)):
            raise CheckpointError(f"{file}: holds a {kind.__name__}, not only plain containers and tensors")


def _is_dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)


def _local(path: str | Path) -> Path:
    """`path`, if it is no address: pathlib makes http:/x of http://x, which other readers would still fetch.

    Raises:
        CheckpointError: for an address of any scheme.
    """
    if "://" in str(path) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        raise CheckpointError(f"{path}: checkpoints are read from local files only; download it first")
    return Path(path)


def _check_archive(stream: IO[bytes]) -> None:
    """What torch leaves out: it compares no checksum, unpacks whatever it finds, and reads bare pickles too.

    Raises:
        ValueError: if it is not a whole archive as `torch.save` writes it.
        zipfile.BadZipFile: if it is no archive.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        raise ValueError("it is not an archive as torch.save writes it")
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if archive.comment or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it has packed entries or a comment")
        if any(entry.external_attr & 0x10 for entry in entries):  # torch reads nothing of them, and says nothing
            raise ValueError("it has entries marked as directories")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries overlap")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("it holds two entries of one name")
        if damaged := archive.testzip():
            raise ValueError(f"it is damaged: the checksum of {damaged} is wrong")


def _short(told: object) -> str:
    """Whatever a stranger's file makes an error say, in one line."""
    return textwrap.shorten(str(told), LONGEST)
