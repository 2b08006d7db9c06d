"""The functions that the configs call as `${name:...}`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from nelbo.composing.compat import register_resolver
from nelbo.running.directory import run_directory
from nelbo.sweeps.cells.names import directory_name
from nelbo.sweeps.job import plain_config


def register_resolvers() -> None:
    """What the configs need to name run directories, and to cap one number by another."""
    # Runs that start in the same second must not share a directory.
    register_resolver("token", lambda: secrets.token_hex(3), use_cache=True)
    register_resolver("directory_name", directory_name)
    register_resolver("at_most", _at_most)
    register_resolver("image_shape", _image_shape)
    register_resolver("run_directory", _run_directory)


def _run_directory(outputs: str, resume: Any, fresh: str, *, _root_: DictConfig) -> str:
    """What the config needs to go on in the directory of a run."""
    return str(run_directory(Path(outputs), resume, fresh, lambda: plain_config(_root_)))


def _image_shape(channels: object, image_size: object) -> list[object]:
    """What the shape of pictures is, whose size is one number, or height and width; others are refused elsewhere."""
    both = list(image_size) if isinstance(image_size, ListConfig | list) and len(image_size) == 2 else [image_size] * 2
    return [channels, *both]


def _at_most(most: int, limit: object) -> object:
    """What a measure that is slow by itself takes of a limit on all measures; what is no number it refuses itself."""
    if limit is None:
        return most
    return min(most, limit) if isinstance(limit, int) and not isinstance(limit, bool) else limit
