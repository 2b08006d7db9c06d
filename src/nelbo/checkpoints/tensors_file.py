"""Models as .safetensors files: the weights, with the record of the checkpoint in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nelbo.errors import CheckpointError, DamagedCheckpoint, NelboError, first_line

SUFFIX = ".safetensors"
KEY = "nelbo"
"""The entry of the header that holds the record, as JSON, with the step under `global_step`."""

INSTALL = "needs a package: pip install safetensors"


def write_tensors(file: Path, record: Mapping[str, Any], state: Mapping[str, Tensor], step: int) -> None:
    """Write a model as a .safetensors file, which `nelbo.load` and the commands read like a checkpoint.

    Args:
        file: the file to write.
        record: the record of the checkpoint.
        state: the tensors by name, as in the checkpoint's `state_dict`.
        step: the optimiser step of the checkpoint.

    Raises:
        NelboError: if the package safetensors is missing.
        OSError: if the file cannot be written.
    """
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError as error:
        raise NelboError(f"{file}: {INSTALL}") from error
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    save_file(tensors, file, metadata={KEY: json.dumps({**record, "global_step": step})})


def read_tensors(file: Path) -> dict[str, Any]:
    """Read a file of `write_tensors`, as a checkpoint.

    Raises:
        CheckpointError: if it cannot be read, or the package safetensors is missing.
        DamagedCheckpoint: if it is not such a file.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{file}: {INSTALL}") from error
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 # it is no mapping
        record = json.loads(header[KEY])
        step = int(record.pop("global_step"))
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror or first_line(error)}") from error
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"{file}: not a .safetensors file of nelbo: {first_line(error)}") from error
    return {KEY: record, "state_dict": state, "global_step": step}
