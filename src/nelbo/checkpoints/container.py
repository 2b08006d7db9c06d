"""Safe reading of checkpoint files: plain containers and tensors only, with every checksum verified."""

from __future__ import annotations

import os
import re
import textwrap
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from nelbo.errors import CheckpointError, DamagedCheckpoint, Stopped, first_line
from nelbo.files import atomic

PLAIN = (str, int, float, bool, bytes, type(None), torch.dtype, torch.device)

LONGEST = 300
"""Maximum number of characters of an error that an untrusted file caused."""


def read_plain(path: str | Path) -> Any:
    """Read a file that `torch.save` wrote, onto the CPU; it may hold only plain containers and tensors.

    Raises:
        CheckpointError: if it is not a local file, cannot be read, is damaged, or holds an object of another class.
    """
    file = local(path)
    try:
        with file.open("rb") as stream:  # opened only once, so that the bytes checked are the bytes loaded
            _check_archive(stream)
            stream.seek(0)
            # An explicit weights_only=True cannot be overridden by TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.
            content = torch.load(stream, map_location="cpu", weights_only=True, mmap=False)
    except (OSError, MemoryError) as error:  # these do not mean that the file itself is damaged
        reason = getattr(error, "strerror", None) or "it does not fit in memory"
        raise CheckpointError(f"{file}: cannot be read: {reason}") from error
    except Exception as error:  # arbitrary bytes make the unpickler raise any kind of exception
        raise DamagedCheckpoint(f"{file}: not a readable checkpoint: {short(first_line(error))}") from error
    check_plain(content, file)
    return content


def write_plain(content: object, file: Path) -> None:
    """Write a file that `read_plain` reads, atomically, in a folder that is made if it is missing.

    Raises:
        CheckpointError: if `content` holds anything but plain containers and tensors, which could not be read back.
        OSError: if the file cannot be written; an existing one of that name is then unchanged.
    """
    check_plain(content, file)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with atomic(file) as stream:
            torch.save(content, stream)
    except RuntimeError as error:
        cause = error.__context__  # torch wraps exceptions of its stream
        if isinstance(cause, OSError | Stopped):  # Stopped: a second signal, which stops at once
            raise cause from error
        raise


def check_plain(content: object, file: Path) -> None:
    """Check that `content` holds only plain data, so that it can be read back exactly as it was written.

    `weights_only` alone also accepts other types.

    Args:
        content: the content of a checkpoint.
        file: its path, for the error.

    Raises:
        CheckpointError: if it holds anything but dicts, lists, tuples, scalars and dense tensors.
    """
    pending, seen = [content], set[int]()
    while pending:
        value = pending.pop()
        kind = type(value)
        if id(value) in seen or kind in PLAIN:
            continue
        seen.add(id(value))  # a container may contain itself
        if isinstance(value, dict) and kind in (dict, OrderedDict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple) and kind in (list, tuple, torch.Size):
            pending += value
        elif not (isinstance(value, Tensor) and kind in (Tensor, nn.Parameter) and _is_dense(value)):
            raise CheckpointError(f"{file}: holds a {kind.__name__}, not only plain containers and tensors")


def _is_dense(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)


def local(path: str | Path) -> Path:
    """Return `path` as a Path, and refuse URLs.

    pathlib turns http://x into http:/x, which is recognised as a URL too.

    Raises:
        CheckpointError: for a URL of any scheme.
    """
    if "://" in str(path) or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
        how = (
            "download it first" if not str(path).startswith("hf:") else "nelbo pull repo=OWNER/NAME out=FOLDER gets it"
        )
        raise CheckpointError(f"{path}: checkpoints are read from local files only; {how}")
    return Path(path)


def _check_archive(stream: IO[bytes]) -> None:
    """Check that a file is an undamaged archive as `torch.save` writes it.

    `torch.load` verifies no checksums, accepts compressed entries and also reads pickles outside an archive.

    Raises:
        ValueError: if the archive is damaged or `torch.save` would not have written it so.
        zipfile.BadZipFile: if it is not a zip archive.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if stream.read(4) != b"PK\x03\x04":
        raise ValueError("it is not an archive as torch.save writes it")
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if archive.comment or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it has compressed entries or a comment")
        if any(entry.external_attr & 0x10 for entry in entries):  # torch would silently skip their content
            raise ValueError("it has entries marked as directories")
        if sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries overlap")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("it has two entries of the same name")
        if damaged := archive.testzip():
            raise ValueError(f"it is damaged: the checksum of {damaged} is wrong")


def short(message: object) -> str:
    """Return a message as one line of at most `LONGEST` characters; text from an untrusted file may be any length."""
    return textwrap.shorten(str(message), LONGEST)
