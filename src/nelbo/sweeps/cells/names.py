"""Directory names of cells."""

from __future__ import annotations

import re
from collections import Counter
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

    A key is shortened to its last part, as in `latent_dim=2,beta=0.5`, where no other swept key ends with the same.

    Args:
        job: the overrides of the cell, `key=value` each.
        swept: the keys whose values differ between cells.
        identity: the digest of the cell's resolved config.
    """
    last = Counter(key.rpartition(".")[2] for key in swept)
    names = []
    for override in job:
        key, equals, value = override.partition("=")
        if key in swept:
            short = key.rpartition(".")[2]
            names.append(f"{short if last[short] == 1 else key}{equals}{value}")
    return f"{directory_name(','.join(names))}-{identity[:DIGEST_LENGTH]}"
