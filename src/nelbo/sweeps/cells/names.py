"""Directory names of cells."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nelbo.files import short_name

DIGEST_LENGTH = 8
"""Number of hexadecimal digits of a cell's identity that its name ends with."""


def directory_name(overrides: str) -> str:
    """Return a name, made of overrides, that is valid in every file system and in TensorBoard's list of runs.

    >>> directory_name("model.latent_dim=2,data.root='/a b'")
    'model.latent_dim=2,data.root=_a_b_'
    """
    return short_name(re.sub(r"[^\w.,=+-]+", "_", overrides)) or "defaults"


def cell_name(job: Sequence[str], swept: Sequence[str], identity: str) -> str:
    """Return the directory name of a cell: its swept overrides, and digits of its identity that make it unique.

    Args:
        job: the overrides of the cell, `key=value` each.
        swept: the keys whose values differ between cells.
        identity: the digest of the cell's resolved config.
    """
    overrides = [override for override in job if override.partition("=")[0] in swept]
    return f"{directory_name(','.join(overrides))}-{identity[:DIGEST_LENGTH]}"
