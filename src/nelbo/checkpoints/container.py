"""The file of a checkpoint: plain containers and tensors, with every checksum compared."""

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

from nelbo.errors import CheckpointError, DamagedCheckpoint, first_line

PLAIN = (str, int, float, bool, bytes, type(None), torch.dtype, torch.device)


LONGEST = 300  # characters of what is wrong with a stranger's file


def read_plain(path: str | Path) -> Any:
    """What `torch.save` wrote, on the CPU: plain containers and tensors, never an object of another class.

    Raises:
        CheckpointError: if it is not a local file, cannot be read, is damaged, or holds anything else.
    """
    file = local(path)
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
        raise DamagedCheckpoint(f"{file}: not a readable checkpoint: {short(first_line(error))}") from error
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


def local(path: str | Path) -> Path:
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


def short(told: object) -> str:
    """Whatever a stranger's file makes an error say, in one line."""
    return textwrap.shorten(str(told), LONGEST)
